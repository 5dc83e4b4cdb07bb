import json
import re
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2TokenizerFast

from tfllm.data import (
    ArrayStore,
    CompletionEncoder,
    FastTokenizer,
    PackedRows,
    build_array_store,
    pipeline_packed_rows,
)
from tfllm.data.encoders import Ragged
from tfllm.data.templates import DialogueTemplate, PairTemplate, Template
from tfllm.errors import InputError

PAIR = PairTemplate(Template("{a}"), Template("{b}"))
CHAT = DialogueTemplate(Template("{speaker}:{text}\n"), "B")
WORDS = st.lists(st.sampled_from(["the", "cat", " sat", "é", "\n", "<|endoftext|>"]), max_size=9)
TEXTS = WORDS.map("".join)


def rows(column: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(column.values, np.cumsum(column.lengths)[:-1])]


@pytest.fixture(scope="module")
def fast(tokenizer) -> FastTokenizer:
    return FastTokenizer.of(tokenizer)


@pytest.fixture(scope="module")
def hugging_face(tokenizer, tmp_path_factory) -> GPT2TokenizerFast:
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer.save(folder)
    return GPT2TokenizerFast.from_pretrained(folder)


def encode(fast, examples, length=99, too_long="left", template=PAIR):
    columns, counts = CompletionEncoder(fast, template, length, too_long)(examples)
    return [rows(columns[name]) for name in ("input_ids", "targets", "weights")], counts


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), st.integers(2, 20))
def test_ids_are_what_transformers_users_join(fast, hugging_face, pairs, length):
    """Their labels are the ids, −100 on the prompt, moved on by one."""
    examples = [{"a": a, "b": b} for a, b in pairs]
    found, counts = encode(fast, examples, length)
    wanted, cut = [], 0
    for a, b in pairs:
        prompt = hugging_face(a)["input_ids"] or [hugging_face.bos_token_id]
        completion = hugging_face(b)["input_ids"] + [hugging_face.eos_token_id]
        if len(completion) > length:
            continue
        ids, labels = prompt + completion, [-100] * len(prompt) + completion
        over = max(0, len(ids) - 1 - length)
        cut += over
        targets = labels[1:][over:]
        wanted.append((ids[:-1][over:], ids[1:][over:], [int(t != -100) for t in targets]))
    assert found == [list(column) for column in zip(*wanted, strict=True)] or not wanted
    assert counts["prompt_tokens_cut"] == cut
    assert counts["examples_left_out"] == len(pairs) - len(wanted)
    assert counts["completion_tokens"] == sum(sum(row[2]) for row in wanted)
    assert counts["completions_cut"] == 0


def test_a_row_by_hand(fast):
    example = {"a": "ab", "b": "cd"}
    a, b, c, d = (fast.fast.token_to_id(letter) for letter in "abcd")
    end = fast.eos_id
    assert encode(fast, [example])[0] == [[[a, b, c, d]], [[b, c, d, end]], [[0, 1, 1, 1]]]
    left, counts = encode(fast, [example], 3)
    assert left == [[[b, c, d]], [[c, d, end]], [[1, 1, 1]]]
    assert counts["prompts_cut"] == counts["prompt_tokens_cut"] == 1
    assert counts["completion_bytes"] == 2 and counts["completion_tokens"] == 3
    # Never a part of a completion
    none = {"completion_bytes", "completion_tokens"}
    for length, way in ((2, "left"), (3, "skip")):
        (ids, _, _), counts = encode(fast, [example], length, way)
        assert ids == [[]] and counts["examples_left_out"] == 1
        assert all(counts[name] == 0 for name in none)
    with pytest.raises(InputError, match=r"has 4 tokens, and a row 3: {'a': 'ab', .*--too_long"):
        encode(fast, [example], 3, "refuse")


def test_what_stands_before_nothing(fast):
    (ids, targets, weights), _ = encode(fast, [{"a": "", "b": "c"}, {"a": "a", "b": ""}])
    c, a, end = fast.fast.token_to_id("c"), fast.fast.token_to_id("a"), fast.eos_id
    assert ids == [[fast.bos_id, c], [a]]
    assert targets == [[c, end], [end]] and weights == [[1, 1], [1]]


def test_turns_by_hand(fast):
    """Each learnt turn is to be followed by the end, and the row goes on with the template."""

    def ids(text: str) -> list[int]:
        return fast.fast.encode(text, add_special_tokens=False).ids

    talk = {"turns": ["c", "d", "a", "t", "e"], "speakers": list("ABABA")}
    found, counts = encode(fast, [talk], template=CHAT)
    text = "A:c\nB:d\nA:a\nB:t"
    (read,), (targets,), (weights,) = found
    assert read == ids(text)  # for this vocabulary the pieces' joints are joints of the whole
    letters = [*text[1:], "end"]
    learnt = [i for i, weight in enumerate(weights) if weight]
    assert [letters[i] for i in learnt] == ["d", "\n", "t", "end"]
    assert [targets[i] for i in learnt] == [*ids("d"), fast.eos_id, *ids("t"), fast.eos_id]
    assert counts["completion_tokens"] == 4 and counts["completion_bytes"] == 2
    # A cut that takes the first learnt turn's cue takes the turn out of what is learnt.
    found, counts = encode(fast, [talk], 9, template=CHAT)
    assert found[0] == [read[-9:]] and sum(found[2][0]) == 2
    assert counts["completions_cut"] == 1 and counts["prompt_tokens_cut"] == len(read) - 9
    # Nobody who is learnt speaks.
    _, counts = encode(fast, [{"turns": ["c"], "speakers": ["A"]}], template=CHAT)
    assert counts["examples_left_out"] == 1


def test_a_turn_that_is_learnt_first_has_a_start(fast):
    template = DialogueTemplate(Template("{text}\n"), "all")
    (ids, _, weights), _ = encode(fast, [{"turns": ["a"], "speakers": ["A"]}], template=template)
    assert ids == [[fast.bos_id, fast.fast.token_to_id("a")]] and weights == [[1, 1]]


def test_stores_are_the_same_however_they_are_built(fast, tmp_path):
    encoder = CompletionEncoder(fast, PAIR, 12)
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdt e"))
    texts = ["".join(rng.choice(letters, n)) for n in rng.integers(1, 15, 9_000)]
    examples = [{"a": a, "b": b} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    stores = [
        build_array_store(examples, encoder, cache_dir=tmp_path / str(n), processes=n)
        for n in (1, 2)
    ]
    one, two = (store.manifest for store in stores)
    assert one.columns == two.columns and one.counts == two.counts and one.rows == two.rows
    assert one.encoder == json.loads(json.dumps(encoder.identity()))
    assert bytes(ForkingPickler.dumps(encoder))
    assert int(stores[0].values("weights").sum()) == one.counts["completion_tokens"]
    again = CompletionEncoder(fast, PAIR, 13)
    assert build_array_store(examples, again, cache_dir=tmp_path / "1").folder != stores[0].folder


def test_settings_that_can_not_be(fast, tokenizer):
    with pytest.raises(InputError, match="one of left, skip, refuse. Received: 'right'"):
        CompletionEncoder(fast, PAIR, 9, "right")
    with pytest.raises(InputError, match="must be at least 2. Received: 1"):
        CompletionEncoder(fast, PAIR, 1)
    state = {name: getattr(fast, name) for name in FastTokenizer.__dataclass_fields__}
    with pytest.raises(InputError, match="no end-of-text token"):
        CompletionEncoder(FastTokenizer(**state | {"eos_id": None}), PAIR, 9)
    startless = CompletionEncoder(FastTokenizer(**state | {"bos_id": None}), PAIR, 9)
    with pytest.raises(InputError, match="nothing before its completion: {'a': '', .*no start"):
        startless([{"a": "", "b": "c"}])
    with pytest.raises(InputError, match="half a surrogate pair: {'a': 'x', .*Mend or drop it"):
        CompletionEncoder(fast, PAIR, 9)([{"a": "a", "b": "b"}, {"a": "x", "b": "\ud800"}])


@pytest.fixture
def store(fast, tmp_path) -> ArrayStore:
    examples = [{"a": "a" * (1 + n % 7), "b": "b" * (n % 5)} for n in range(60)]
    return build_array_store(examples, CompletionEncoder(fast, PAIR, 16), cache_dir=tmp_path)


def test_packed_rows_by_hand(fast, tmp_path):
    a, b, c, end = (*(fast.fast.token_to_id(letter) for letter in "abc"), fast.eos_id)
    encoder = CompletionEncoder(fast, PAIR, 6)
    examples = [{"a": "ab", "b": "c"}, {"a": "c", "b": "a"}]
    store = build_array_store(examples, encoder, cache_dir=tmp_path)
    data = PackedRows(store, sequence_length=6, global_batch_size=1, end_id=end)
    features, targets, weights = data.batch(0)
    assert features["input_ids"].tolist() == [[a, b, c, c, a, end]]
    assert features["segment_ids"].tolist() == [[1, 1, 1, 2, 2, 0]]
    assert features["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]]
    assert targets.tolist() == [[b, c, end, a, end, end]]
    assert weights.tolist() == [[0, 1, 1, 1, 1, 0]] and weights.dtype == np.float32
    assert data.targets == 4 and data.longest_completion == 2 and "83.3% full" in str(data)
    with pytest.raises(InputError, match="has 3 tokens, and a packed row 2: it would be cut"):
        PackedRows(store, sequence_length=2, global_batch_size=1)


def test_every_example_once_in_an_epoch_and_whole(store):
    data = PackedRows(store, sequence_length=20, global_batch_size=4, seed=3)
    wanted = sorted(tuple(store.row("input_ids", row)) for row in range(len(store)))
    for epoch in (0, 5):
        seen, read = [], []
        for step in range(data.steps_per_epoch):
            at = epoch * data.steps_per_epoch + step
            features, targets, weights = data.batch(at)
            seen += data.plan.rows(at).rows.tolist()
            shares = [data.batch(at, worker, 2) for worker in range(2)]
            both = np.concatenate([share[0]["input_ids"] for share in shares])
            np.testing.assert_array_equal(both, features["input_ids"])
            for ids, segments in zip(features["input_ids"], features["segment_ids"], strict=True):
                read += [tuple(ids[segments == s]) for s in range(1, segments.max() + 1)]
        assert sorted(seen) == list(range(len(store))) and sorted(read) == wanted
    first = [data.batch(0)[0]["input_ids"].tolist(), data.batch(data.steps_per_epoch)]
    assert first[0] != first[1][0]["input_ids"].tolist()
    again = PackedRows(store, sequence_length=20, global_batch_size=4, seed=3)
    assert again.batch(0)[0]["input_ids"].tolist() == first[0]


def test_a_dataset_begins_anywhere(store):
    data = PackedRows(store, sequence_length=20, global_batch_size=4, seed=3)
    far = 10**9 + 1
    for batch, step in zip(data.dataset(far, 2), (far, far + 1), strict=True):
        for tensor, array in zip(batch[0].values(), data.batch(step)[0].values(), strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)
        np.testing.assert_array_equal(batch[2].numpy(), data.batch(step)[2])


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=8))
def test_the_longest_completion(rows):
    """0 is a prompt's token, 9 the end: dialogues hold completions side by side."""
    targets = [[9 if n == 1 else 4 for n in row] for row in rows]
    weights = [[int(n > 0) for n in row] for row in rows]
    runs = [run for row in rows for run in re.findall("[2-5]*1|[2-5]+", "".join(map(str, row)))]
    columns = {"targets": np.array(sum(targets, [])), "weights": np.array(sum(weights, []))}
    offsets = np.cumsum([0] + [len(row) for row in rows])
    fake = SimpleNamespace(offsets=lambda name: offsets, values=columns.__getitem__)
    data = PackedRows(fake, sequence_length=6, global_batch_size=1, end_id=9)
    assert data.longest_completion == max(map(len, runs), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_packed_rows, "_STRETCH", 3)
        assert data.longest_completion == max(map(len, runs), default=0)


def test_looking_for_the_longest_completion_takes_no_memory():
    """What NumPy holds at once, of ten million tokens."""
    tokens, width = 10_000_000, 1_000
    values = {"targets": np.full(tokens, 4, np.uint16), "weights": np.ones(tokens, np.uint8)}
    values["targets"][999_900] = 9
    offsets = np.arange(0, tokens + 1, width)
    fake = SimpleNamespace(offsets=lambda name: offsets, values=values.__getitem__)
    data = PackedRows(fake, sequence_length=width, global_batch_size=1, end_id=9)
    tracemalloc.start()
    assert data.longest_completion == width
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 << 20
