import dataclasses
import json
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizerFast, RobertaTokenizerFast

from tfllm.data.array_building import build_array_store
from tfllm.data.encoders import QuestionEncoder, Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.pipeline_rows import RowBatches
from tfllm.data.row_plan import RowPlan
from tfllm.errors import InputError
from tfllm.text import train_byte_level_bpe

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] who what ? kim sings . a b ##b 猫 é".split()
TEXT = st.lists(
    st.sampled_from(["kim", "sings", "a", "abb", "b.b", "猫猫", "É", "x", "[SEP]", " ", "🙂"]),
    max_size=16,
).map(" ".join)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY))
    return BertTokenizerFast(vocab_file=str(path))


def fast_of(theirs) -> FastTokenizer:
    backend = theirs.backend_tokenizer
    backend.no_truncation()
    return FastTokenizer(backend.to_str(), "x", len(theirs), None, None, True)


@pytest.fixture(scope="module")
def fast(bert) -> FastTokenizer:
    return fast_of(bert)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory) -> RobertaTokenizerFast:
    folder = tmp_path_factory.mktemp("bpe")
    train_byte_level_bpe(["kim sings a abb 猫猫 x kim sings"] * 3, 300).save(folder)
    roles = ("bos_token", "eos_token", "sep_token", "cls_token", "unk_token", "pad_token")
    return RobertaTokenizerFast(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        **dict.fromkeys(roles, "<|endoftext|>"),
    )


def rows(column: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(column.values, np.cumsum(column.lengths)[:-1])]


def asked(question: str, context: str, *answers: str) -> dict:
    starts = [context.index(answer) for answer in answers]
    return {
        "question": question,
        "context": context,
        "answers": list(answers),
        "answer_starts": starts,
    }


def test_a_question_by_hand(fast):
    encoder = QuestionEncoder(fast, 12, overlap=2, max_question_tokens=3)
    columns, counts = encoder([asked("Who ?", "Kim sings .", "sings .", "Kim")])
    (ids,) = rows(columns["input_ids"])
    wanted = "[CLS] who ? [SEP] kim sings . [SEP]"
    assert [VOCABULARY[token] for token in ids] == wanted.split()
    assert rows(columns["token_type_ids"]) == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert rows(columns["context_mask"]) == [[0, 0, 0, 0, 1, 1, 1, 0]]
    assert rows(columns["starts"]) == [[0, 0, 0, 0, 0, 4, 10, 0]]
    assert rows(columns["ends"]) == [[0, 0, 0, 0, 3, 9, 11, 0]]
    assert columns["spans"].tolist() == [[5, 6]] and columns["window"].tolist() == [0]
    assert counts == {"text_bytes": 16, "questions_cut": 0, "contexts_cut": 0, "answers_lost": 0}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@settings(max_examples=80)
@given(
    st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4),
    st.integers(24, 34),
    st.integers(0, 3),
)
def test_windows_are_hugging_faces(request, kind, pairs, most, overlap):
    theirs = request.getfixturevalue(kind)
    encoder = QuestionEncoder(fast_of(theirs), most, overlap=overlap, max_question_tokens=16)
    questions, contexts = zip(*pairs, strict=True)
    questions = [
        theirs.decode(theirs(q, add_special_tokens=False)["input_ids"][:5]) for q in questions
    ]
    examples = [
        {"question": q, "context": c, "answers": []}
        for q, c in zip(questions, contexts, strict=True)
    ]
    columns, counts = encoder(examples)
    wanted = theirs(
        questions,
        list(contexts),
        truncation="only_second",
        max_length=most,
        stride=overlap,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    assert rows(columns["input_ids"]) == wanted["input_ids"]
    assert rows(columns["token_type_ids"]) == wanted["token_type_ids"]
    masks = [[int(s == 1) for s in wanted.sequence_ids(i)] for i in range(len(wanted["input_ids"]))]
    assert rows(columns["context_mask"]) == masks
    numbers = np.cumsum(columns["window"] == 0) - 1
    assert numbers.tolist() == wanted["overflow_to_sample_mapping"]
    for row, places in enumerate(wanted["offset_mapping"]):
        inside = [place if m else (0, 0) for place, m in zip(places, masks[row], strict=True)]
        assert (
            list(zip(rows(columns["starts"])[row], rows(columns["ends"])[row], strict=True))
            == inside
        )
    assert not columns["spans"].any() and counts["questions_cut"] == 0


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["kim", "sings", "abb", "猫", "."]), min_size=1, max_size=30),
    st.data(),
)
def test_spans_cut_the_answer_out_again(fast, words, data):
    first = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(first + 1, len(words)))
    context, answer = " ".join(words), " ".join(words[first:end])
    start = len(" ".join(words[:first])) + (first > 0)
    encoder = QuestionEncoder(fast, 16, overlap=4, max_question_tokens=4)
    example = asked("who ?", context, answer) | {"answer_starts": [start]}
    columns, counts = encoder([example])
    held = []
    starts, ends, masks = (rows(columns[name]) for name in ("starts", "ends", "context_mask"))
    for row, (left, right) in enumerate(columns["spans"]):
        places = [s for s, m in zip(starts[row], masks[row], strict=True) if m]
        last = [e for e, m in zip(ends[row], masks[row], strict=True) if m]
        contained = places[0] <= start and start + len(answer) <= last[-1]
        assert (left > 0) == contained and (right > 0) == contained
        if left:
            held.append(context[starts[row][left] : ends[row][right]])
    assert held == [answer] * len(held) and counts["answers_lost"] == 0


def test_long_questions_are_cut_and_long_contexts_windowed(fast):
    encoder = QuestionEncoder(fast, 10, overlap=2, max_question_tokens=2)
    columns, counts = encoder([asked("who what ? ?", "kim sings . a b . kim .", "a b")])
    texts = [" ".join(VOCABULARY[token] for token in row) for row in rows(columns["input_ids"])]
    assert texts == [
        "[CLS] who what [SEP] kim sings . a b [SEP]",
        "[CLS] who what [SEP] a b . kim . [SEP]",
    ]
    assert columns["spans"].tolist() == [[7, 8], [4, 5]] and columns["window"].tolist() == [0, 1]
    assert counts["questions_cut"] == 1 and counts["contexts_cut"] == 1


def test_answers_without_a_token_are_counted(fast):
    _, counts = QuestionEncoder(fast)([asked("who ?", "kim \u200b sings", "\u200b")])
    assert counts["answers_lost"] == 1


def test_batches_of_spans(fast, tmp_path):
    encoder = QuestionEncoder(fast, 12, overlap=2, max_question_tokens=3)
    examples = [asked("who ?", "kim sings .", "kim"), asked("what ?", "a b", "a b")]
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    data = RowBatches(store, RowPlan(2, 4, None), targets="spans", features=encoder.features)
    features, targets, weights = data.batch(0)
    names = {"input_ids", "token_type_ids", "context_mask", "attention_mask"}
    assert set(features) == names
    assert targets.tolist() == [[4, 4], [4, 5], [4, 4], [4, 4]] and targets.dtype == np.int32
    assert weights.tolist() == [1, 1, 0, 0]
    (batch,) = data.dataset()
    assert batch[1].numpy().tolist() == targets.tolist()
    assert data.signature()[1].shape.as_list() == [None, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": ["bob"], "answer_starts": [0]}, "the answer 'bob' at 0, .* has 'kim'"),
        ({"answers": ["kim"], "answer_starts": []}, "no place in 'answer_starts'.*'kim' at None"),
        ({"answers": [""], "answer_starts": [0]}, "has no text or no place"),
        ({"answers": ["."], "answer_starts": [-1]}, "has no text or no place"),
        ({"answers": "kim"}, "no list of texts in field 'answers'"),
        ({"context": None}, "no text in field 'context'"),
    ],
)
def test_questions_that_cannot_be_encoded(fast, changes, message):
    with pytest.raises(InputError, match=message):
        QuestionEncoder(fast)([asked("who ?", "kim sings .", "kim") | changes])


@pytest.mark.parametrize("sizes", [(99, 32, 64), (99, 33, 63), (99, -1, 9), (99, 9, 0)], ids=str)
def test_sizes_that_cannot_be(fast, sizes):
    most, overlap, question = sizes
    with pytest.raises(InputError, match=f"max_tokens {most} leaves"):
        QuestionEncoder(fast, most, overlap, question)


def test_an_encoder_travels_and_its_settings_count(fast):
    encoder = QuestionEncoder(fast)
    example = asked("who ?", "kim sings .", "kim")
    there = ForkingPickler.loads(ForkingPickler.dumps(encoder))
    assert there == encoder
    assert (
        there([example]).columns["spans"].tolist() == encoder([example]).columns["spans"].tolist()
    )
    assert "spans" not in dataclasses.replace(encoder, answers=None)([example]).columns
    assert encoder([]).columns["spans"].shape == (0, 2)
    changes = [
        {"tokenizer": dataclasses.replace(fast, fingerprint="other")},
        {"max_tokens": 300},
        {"overlap": 9},
        {"max_question_tokens": 32},
        {"question": "q"},
        {"context": "c"},
        {"answers": None},
        {"answer_starts": "s"},
    ]
    made = [dataclasses.replace(encoder, **change).identity() for change in changes]
    texts = {json.dumps(identity) for identity in [encoder.identity(), *made]}
    assert len(texts) == 1 + len(changes) == 1 + len(dataclasses.fields(encoder))
