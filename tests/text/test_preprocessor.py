"""Rows with special tokens, truncation and padding, beside Hugging Face's."""

import numpy as np
import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from tfllm.errors import InputError
from tfllm.text import ByteLevelBPE, train_byte_level_bpe
from tfllm.text.preprocessor import Preprocessor

WORDS = "the cat sat on the mat and the dog saw the cat run to the old house by the sea é 日本"
SPECIAL = ("<s>", "<pad>", "</s>", "<sep>")
PROCESSORS = {
    "none": None,
    "bert": processors.BertProcessing(("</s>", 2), ("<s>", 0)),
    "roberta": processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False),
    "template": processors.TemplateProcessing(
        single="$A:1 </s>:1 <s>:0",
        pair="<sep>:3 $B:2 </s>:2 $A:0 <sep>:4",
        special_tokens=[("<s>", 0), ("</s>", 2), ("<sep>", 3)],
    ),
}


def build(processor: str) -> ByteLevelBPE:
    trained = train_byte_level_bpe([WORDS] * 3, 300, special_tokens=SPECIAL)
    fast = tokenizers.Tokenizer.from_str(trained.fast.to_str())
    fast.post_processor = PROCESSORS[processor]
    return ByteLevelBPE(fast, special_roles={"pad_token": "<pad>"})


TOKENIZERS = {name: build(name) for name in PROCESSORS}
texts = st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join)


def reference(fast, rows, *, length, truncation, side, padding, padding_side):
    """What Hugging Face gives, a list of encodings."""
    fast = tokenizers.Tokenizer.from_str(fast.to_str())
    fast.enable_truncation(length, strategy=truncation, direction=side)
    width = length if padding == "sequence_length" else None
    fast.enable_padding(direction=padding_side, pad_id=1, pad_token="<pad>", length=width)
    return fast.encode_batch(rows)


def in_bytes(text: str, characters: tuple[int, int]) -> list[int]:
    return [len(text[:place].encode()) for place in characters]


@pytest.mark.parametrize("processor", PROCESSORS)
@given(
    rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=4),
    paired=st.booleans(),
    length=st.integers(5, 24),
    side=st.sampled_from(["left", "right"]),
    padding=st.sampled_from(["longest", "sequence_length"]),
    padding_side=st.sampled_from(["left", "right"]),
)
@settings(deadline=None, max_examples=40)
def test_rows_equal_hugging_faces(processor, rows, paired, length, side, padding, padding_side):
    tokenizer = TOKENIZERS[processor]
    firsts, seconds = map(list, zip(*rows, strict=True))
    expected = reference(
        tokenizer.fast,
        rows if paired else firsts,
        length=length,
        truncation="longest_first",
        side=side,
        padding=padding,
        padding_side=padding_side,
    )
    preprocess = Preprocessor(
        tokenizer,
        sequence_length=length,
        truncation_side=side,
        padding=padding,
        padding_side=padding_side,
    )
    found = preprocess.with_offsets(firsts, seconds if paired else None)
    np.testing.assert_array_equal(found["input_ids"], [e.ids for e in expected])
    np.testing.assert_array_equal(found["attention_mask"], [e.attention_mask for e in expected])
    np.testing.assert_array_equal(found["token_type_ids"], [e.type_ids for e in expected])
    for row, encoding in enumerate(expected):
        # Without a post-processor Hugging Face counts padding to the first text.
        owners = [
            owner if owner is not None and real else -1
            for owner, real in zip(encoding.sequence_ids, encoding.attention_mask, strict=True)
        ]
        np.testing.assert_array_equal(found["sequence_ids"][row], owners)
        for column, owner in enumerate(owners):
            if owner >= 0:
                places = in_bytes(rows[row][owner], encoding.offsets[column])
                assert [found[name][row, column] for name in ("starts", "ends")] == places
    plain = preprocess(firsts, seconds if paired else None)
    assert set(plain) == {"input_ids", "attention_mask", "token_type_ids"}
    for name, value in plain.items():
        np.testing.assert_array_equal(value, found[name])


@pytest.mark.parametrize("truncation", ["only_first", "only_second"])
@given(first=texts, second=texts, length=st.integers(5, 24))
@settings(deadline=None, max_examples=40)
def test_cutting_one_text_of_a_pair(truncation, first, second, length):
    tokenizer = TOKENIZERS["bert"]
    preprocess = Preprocessor(tokenizer, sequence_length=length, truncation=truncation)
    found = preprocess([first], [second])["input_ids"][0].numpy().tolist()
    other = tokenizer.fast.encode(second if truncation == "only_first" else first)
    if len(other.ids) - 2 + 3 >= length:  # Hugging Face raises, or leaves nothing of the text
        assert len(found) == min(length, len(tokenizer.fast.encode(first, second).ids))
        return
    (expected,) = reference(
        tokenizer.fast,
        [(first, second)],
        length=length,
        truncation=truncation,
        side="right",
        padding="longest",
        padding_side="right",
    )
    assert found == expected.ids


def test_in_a_graph_of_any_batch_size():
    preprocess = Preprocessor(TOKENIZERS["roberta"], sequence_length=9)
    traced = tf.function(
        preprocess, input_signature=[tf.TensorSpec([None], tf.string)] * 2, autograph=False
    )
    for count in (0, 1, 3):
        features = traced([WORDS] * count, ["the cat"] * count)
        assert features["input_ids"].shape == (count, 9 if count else 0)


def test_fixed_width_is_static():
    preprocess = Preprocessor(
        TOKENIZERS["none"], sequence_length=7, padding="sequence_length", padding_side="left"
    )
    traced = tf.function(preprocess, input_signature=[tf.TensorSpec([None], tf.string)])
    assert traced.get_concrete_function().output_shapes["input_ids"].as_list() == [None, 7]
    row = preprocess(["the cat"])["input_ids"][0].numpy()
    ids = TOKENIZERS["none"].fast.encode("the cat").ids
    assert row.tolist() == [1] * (7 - len(ids)) + ids


def test_what_can_not_be_laid_out_is_refused():
    with pytest.raises(InputError, match="sequence_length must be at least 4"):
        Preprocessor(TOKENIZERS["bert"], sequence_length=3)
    with pytest.raises(InputError, match="padding must be one of longest, sequence_length"):
        Preprocessor(TOKENIZERS["bert"], sequence_length=9, padding="max_length")
