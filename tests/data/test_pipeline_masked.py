"""Batches of masked pretraining: what they hold, and what they are to a model."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from transformers import BertConfig, RobertaConfig

from tfllm.data import Masking, masked_batches, unigram_accuracy
from tfllm.data.masked_slots import fill_slots
from tfllm.errors import InputError
from tfllm.models.backbones.forward import create_backbone, hidden_states
from tfllm.text import train_byte_level_bpe, train_wordpiece

WORDS = "the embedding sat on a wordlessly cat mat dog embedded".split()


def text_of(rng, lines) -> str:
    return "\n".join(" ".join(rng.choice(WORDS, n)) for n in rng.integers(2, 9, lines))


@pytest.fixture(scope="module")
def documents() -> list[str]:
    rng = np.random.default_rng(0)
    return [text_of(rng, lines) for lines in rng.integers(1, 12, 60)]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return train_wordpiece(documents, 50)


@pytest.fixture(scope="module", autouse=True)
def stores(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFLLM_CACHE_DIR", str(tmp_path_factory.mktemp("stores")))
        yield


OBJECTIVES = {
    "rows": ("masked_lm",),
    "next": ("masked_lm", "next_sentence"),
    "order": ("sentence_order", "masked_lm"),
}


def batches_of(documents, tokenizer, kind, unit="word", seed=3, batch=4, length=32, **settings):
    masking = Masking.of(tokenizer, unit=unit, **settings)
    return masked_batches(
        documents,
        tokenizer,
        masking=masking,
        objectives=OBJECTIVES[kind],
        sequence_length=length,
        global_batch_size=batch,
        seed=seed,
    )


def unmasked(batch) -> np.ndarray:
    """What stood in a batch before it was masked."""
    features, targets, weights = batch
    ids = features["input_ids"].copy()
    row, slot = np.nonzero(weights["masked_lm"])
    ids[row, features["masked_positions"][row, slot]] = targets["masked_lm"][row, slot]
    return ids


def texts(tokenizer, batch) -> list[str]:
    ids, mask = unmasked(batch), batch[0]["attention_mask"]
    return [
        " ".join(tokenizer.fast.id_to_token(int(t)) for t in row[: real.sum()])
        for row, real in zip(ids, mask, strict=True)
    ]


def test_rows_hold_the_documents(documents, tokenizer):
    batches = batches_of(documents, tokenizer, "rows")
    found = []
    for step in range(batches.steps_per_epoch):
        features, targets, weights = batches.batch(step)
        assert features["input_ids"].shape == (4, batches.row_tokens) == (4, 32)
        ids = unmasked((features, targets, weights))
        for row, segments in zip(ids, features["segment_ids"], strict=True):
            parts = [row[segments == n].tolist() for n in range(1, segments.max() + 1)]
            found += [tuple(part) for part in parts]
        np.testing.assert_array_equal(features["attention_mask"], features["segment_ids"] > 0)
        assert (ids[features["segment_ids"] == 0] == tokenizer.pad_id).all()
    held = batches.store
    assert sorted(found) == sorted(
        tuple(held.row("input_ids", i).tolist()) for i in range(len(held))
    )
    assert batches.tokens_per_step == 128 and "documents" in str(batches)
    assert batches.plan.real_share > 0.95


@pytest.mark.parametrize("kind", ["next", "order"])
def test_rows_hold_pairs(documents, tokenizer, kind):
    batches = batches_of(documents, tokenizer, kind)
    objective = batches.objective
    lines = "\n\n".join(
        "\n".join(
            " ".join(tokenizer.fast.encode(line, add_special_tokens=False).tokens)
            for line in document.split("\n")
        )
        for document in documents
    ).replace("\n\n", " [DOC] ")
    stream = lines.replace("\n", " ")
    seen = {0: 0, 1: 0, None: 0}
    for step in range(batches.steps_per_epoch):
        features, targets, weights = batch = batches.batch(step)
        rows = texts(tokenizer, batch)
        assert features["input_ids"].shape == features["token_type_ids"].shape
        assert features["input_ids"].shape[1] == features["attention_mask"].sum(axis=1).max() <= 32
        for i, row in enumerate(rows):
            first, *second = row.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")
            types = features["token_type_ids"][i]
            assert types.sum() == (len(second[0].split()) + 1 if second else 0)
            assert not types[: len(first.split()) + 2].any()
            if second and not weights[objective][i]:
                continue  # fills the batch
            label = int(targets[objective][i]) if second else None
            assert weights[objective][i] == (label is not None)
            seen[label] += 1
            joined = " ".join(
                [*second, first] if label == 1 and kind == "order" else [first, *second]
            )
            assert first in stream and (not second or second[0] in stream)
            if label != 1 or kind == "order":
                assert joined in stream
    assert min(seen.values()) > 5 and str(batches.plan.num_pairs) in str(batches)
    assert seen[0] + seen[1] == pytest.approx(batches.plan.num_pairs, abs=4)
    assert batches.tokens_per_step >= batches.row_tokens > 8


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_rate_is_kept_over_epochs(documents, tokenizer, kind, unit):
    batches = batches_of(documents, tokenizer, kind, unit, batch=16)
    special = batches.masking.special_ids
    masked = real = 0
    for step in range(8 * batches.steps_per_epoch):
        if kind != "rows" and len(batches.plan.rows(step).rows) < 16:
            continue  # it lacks rows, and repeats one in their place
        batch = batches.batch(step)
        weights = batch[2]["masked_lm"]
        masked += weights.sum()
        real += (~np.isin(unmasked(batch), special)).sum()
        positions = batch[0]["masked_positions"]
        assert not positions[weights == 0].any()
        read = np.take_along_axis(unmasked(batch), positions, 1)[weights > 0]
        assert not np.isin(read, special).any()
    # A row's masks differ from its share by a part of a unit: of a few thousand masks in all,
    # these are three standard deviations.
    off = {"token": 0.002, "word": 0.006, "span": 0.012}[unit]
    assert masked / real == pytest.approx(0.15, abs=off)


def same(one, other):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_resumed_run_reads_the_same(documents, tokenizer, kind):
    batches = batches_of(documents, tokenizer, kind)
    again = batches_of(documents, tokenizer, kind)
    steps = batches.steps_per_epoch
    straight = list(batches.dataset(steps - 2, 5).as_numpy_iterator())
    resumed = list(again.dataset(steps, 3).as_numpy_iterator())
    same(straight[2:], resumed)
    same(straight[4], batches.batch(steps + 2))
    first, later = (texts(tokenizer, batches.batch(step)) for step in (0, steps))
    assert first != later
    other = batches_of(documents, tokenizer, kind, seed=4)
    assert texts(tokenizer, other.batch(0)) != first


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_the_same_rows(documents, tokenizer, kind, seed, workers):
    batches = batches_of(documents, tokenizer, kind, seed=seed)
    steps = batches.steps_per_epoch
    for step in [*range(3), steps - 1, steps, 3 * steps - 1]:
        whole = batches.batch(step)
        shares = [batches.batch(step, worker, workers) for worker in range(workers)]
        slots = whole[2]["masked_lm"].shape[1]
        joined = tf.nest.map_structure(
            lambda *parts: np.concatenate(parts), *widened(shares, slots)
        )
        same(joined, whole)


def widened(shares, slots):
    """As many slots in each."""

    def widen(value, name):
        if name not in ("masked_positions", "masked_lm"):
            return value
        return np.pad(value, [(0, 0), (0, slots - value.shape[1])])

    return [
        tuple({name: widen(value, name) for name, value in part.items()} for part in share)
        for share in shares
    ]


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_validation_has_the_same_masks_every_time(documents, tokenizer, kind):
    batches = batches_of(documents, tokenizer, kind, seed=None)
    steps = batches.steps_per_epoch
    for step in range(0, steps, 3):
        same(batches.batch(step), batches.batch(step + 7 * steps))


def test_masking_reads_the_store_that_is_there(documents, tokenizer):
    one = batches_of(documents, tokenizer, "rows", "span", rate=0.3).store.folder
    assert one == batches_of(documents, tokenizer, "rows", "token", seed=9, batch=2).store.folder
    pairs = [batches_of(documents, tokenizer, kind).store.folder for kind in ("next", "order")]
    assert pairs[0] == pairs[1] != one
    assert batches_of(documents, tokenizer, "rows", length=24).store.folder != one


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_datasets_are_what_their_signature_says(documents, tokenizer, kind):
    for seed in (None, 3):
        batches = batches_of(documents, tokenizer, kind, seed=seed)
        dataset = batches.dataset()
        specs = dataset.element_spec
        count = 0
        for batch in dataset:
            assert tf.nest.map_structure(lambda s, t: s.is_compatible_with(t), specs, batch)
            count += 1
        assert count == batches.steps_per_epoch
        for worker in range(2):
            next(iter(batches.dataset(1, 1, worker=worker, workers=2)))
    assert specs[0]["masked_positions"].shape[1] is None


FAMILIES = {
    "bert": BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    ),
    # Its positions begin behind the padding's number.
    "roberta": RobertaConfig(
        vocab_size=400,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_to_a_model_what_it_is_alone(documents, tokenizer, family):
    if family == "roberta":
        tokenizer = train_byte_level_bpe(
            documents,
            300,
            special_tokens=("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        )
    batches = batches_of(documents, tokenizer, "rows")
    keras.utils.set_random_seed(1)
    backbone = create_backbone(FAMILIES[family])
    rng = np.random.default_rng(5)
    for variable in backbone.weights:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    for step in range(2):
        features = batches.batch(step)[0]
        states = hidden_states(backbone, {n: tf.constant(v) for n, v in features.items()}).numpy()
        for row, segments in enumerate(features["segment_ids"]):
            for segment in range(1, segments.max() + 1):
                inside = segments == segment
                ids = tf.constant(features["input_ids"][row, inside][None])
                alone = hidden_states(
                    backbone, {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
                )
                np.testing.assert_allclose(states[row, inside], alone[0], atol=2e-5)
    assert features["segment_ids"].max() > 1


def test_unigram_accuracy():
    """Seven of eight words are `the`, in training; in what is guessed, a quarter."""
    tokenizer = train_wordpiece(["the cat mat dog"] * 3, 60)
    train = batches_of(["the the the the the the the cat"] * 5, tokenizer, "rows")
    text = ["the cat mat dog"] * 4000
    validation = batches_of(text, tokenizer, "rows", "token", seed=None, batch=64)
    assert unigram_accuracy(train, validation) == pytest.approx(0.25, abs=0.02)
    assert unigram_accuracy(train, train) > 0.6


@for_all(st.lists(st.integers(0, 5), max_size=20))
def test_slots(rows):
    rows = np.sort(np.array(rows, np.int64))
    slots = fill_slots(rows, np.arange(len(rows)), 100 + np.arange(len(rows)), 6)
    used = slots.weights > 0
    np.testing.assert_array_equal(used.sum(axis=1), np.bincount(rows, minlength=6))
    np.testing.assert_array_equal(slots.positions[used], np.arange(len(rows)))
    np.testing.assert_array_equal(slots.targets[used], 100 + np.arange(len(rows)))
    assert not slots.positions[~used].any() and not slots.targets[~used].any()
    assert slots.weights.shape[1] == max(1, np.bincount(rows, minlength=6).max())


ONE_LINERS = ["the cat sat on the mat the cat sat on the mat the cat sat on the mat"] * 3


@pytest.mark.parametrize(
    "given, objectives, message",
    [
        (ONE_LINERS, ("masked_lm", "sentence_order"), "^--valid: .*sentence_order needs sentences"),
        (ONE_LINERS, ("masked_lm", "next_sentence"), "none of the 3 documents has two lines"),
        (["the\ncat", "mat"], ("masked_lm", "next_sentence"), "only one document has two lines"),
        (["", " "], ("masked_lm",), "^--valid holds no token"),
        (["\n"], ("masked_lm", "sentence_order"), "^--valid holds no token"),
        (["a"], ("masked",), "^--objectives must be of masked_lm, next_sentence, sentence_order"),
        (["a"], ("next_sentence",), "must be masked_lm, alone or with one of"),
        (["a"], ("masked_lm", "next_sentence", "sentence_order"), "alone or with one of"),
        (["a"], (), "Received: none"),
    ],
)
def test_refusals(tokenizer, given, objectives, message):
    with pytest.raises(InputError, match=message) as raised:
        masked_batches(
            given,
            tokenizer,
            objectives=objectives,
            sequence_length=16,
            global_batch_size=2,
            part="--valid",
        )
    assert "\n" not in str(raised.value)


def test_a_vocabulary_without_a_mask():
    with pytest.raises(InputError, match="no .MASK. token"):
        masked_batches(
            ["a"],
            train_byte_level_bpe(["a b"], 270),
            sequence_length=16,
            global_batch_size=2,
        )


@settings(max_examples=20, deadline=None)
@for_all(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=2, max_size=5))
def test_any_documents_do(tokenizer, sizes):
    documents = ["\n".join("cat " * n for n in lines) for lines in sizes]
    kinds = ["rows"]
    several = sum(len(lines) > 1 for lines in sizes)
    kinds += ["order"] if several else []
    kinds += ["next"] if several > 1 else []
    for kind in kinds:
        batches = batches_of(documents, tokenizer, kind, length=16)
        for step in range(batches.steps_per_epoch):
            ids = unmasked(batches.batch(step))
            assert np.isin(ids, [0, *batches.masking.special_ids]).any()
