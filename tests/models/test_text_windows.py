import numpy as np
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.models.text_windows import Frame, cut, frame_of, in_chunks
from tfllm.text import ByteLevelBPE, Preprocessor, train_byte_level_bpe, train_wordpiece

FRAME = Frame(np.array([[101, 0], [102, 1]]), np.array([[103, 3]]), 2)


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    room=st.integers(1, 8),
    overlap=st.integers(0, 7),
)
@settings(max_examples=60)
def test_windows_are_those_cut_one_by_one(lengths, room, overlap):
    overlap = min(overlap, room - 1)
    texts = [list(range(1, length + 1)) for length in lengths]
    ids = tf.RaggedTensor.from_row_lengths(tf.constant(sum(texts, []), tf.int32), lengths)
    found = cut(ids, FRAME, sequence_length=room + 3, overlap=overlap, pad_id=99)
    rows, types, documents, tokens = [], [], [], []
    for document, text in enumerate(texts):
        start = 0
        while True:
            window = text[start : start + room]
            rows.append([101, 102, *window, 103])
            types.append([0, 1, *[2] * len(window), 3])
            documents.append(document)
            tokens.append(max(1, len(window)))
            if start + room >= len(text):
                break
            start += room - overlap
    width = max(map(len, rows))
    features = {name: values.numpy().tolist() for name, values in found.features.items()}
    assert features == {
        "input_ids": [row + [99] * (width - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
        "token_type_ids": [row + [0] * (width - len(row)) for row in types],
    }
    assert found.documents.numpy().tolist() == documents
    assert found.tokens.numpy().tolist() == tokens


def test_what_stands_around_a_text():
    tokenizer = train_wordpiece(["a b c"] * 2, 20)
    frame = frame_of(Preprocessor(tokenizer, sequence_length=9, padding="sequence_length"))
    assert frame.before.tolist() == [[tokenizer.cls_id, 0]]
    assert frame.after.tolist() == [[tokenizer.sep_id, 0]]
    assert (frame.token_type, frame.size) == (0, 2)


def test_nothing_stands_around_a_text_and_token_types():
    trained = train_byte_level_bpe(["a b c"] * 2, 260, special_tokens=("<s>",))
    frame = frame_of(Preprocessor(trained, sequence_length=4))
    assert (frame.before.shape, frame.after.shape, frame.size) == ((0, 2), (0, 2), 0)
    fast = tokenizers.Tokenizer.from_str(trained.fast.to_str())
    fast.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> <s>:4 $A:3", pair="$A $B", special_tokens=[("<s>", 0)]
    )
    preprocess = Preprocessor(ByteLevelBPE(fast), sequence_length=9, padding_side="left")
    frame = frame_of(preprocess)
    assert frame.before.tolist() == [[0, 0], [0, 4]]
    assert (frame.after.shape, frame.token_type) == ((0, 2), 3)


@given(rows=st.integers(1, 9), rows_per_chunk=st.integers(1, 10))
@settings(max_examples=25)
def test_chunks_make_no_difference(rows, rows_per_chunk):
    sizes = []

    def compute(features):
        sizes.append(features["input_ids"].shape[0])
        return tf.cast(features["input_ids"], tf.float32) * 2.0

    ids = tf.reshape(tf.range(rows * 3), [rows, 3])
    found = in_chunks(compute, {"input_ids": ids}, rows_per_chunk=rows_per_chunk)
    np.testing.assert_array_equal(found, 2 * ids.numpy())
    assert sum(sizes) == rows and max(sizes) <= rows_per_chunk
