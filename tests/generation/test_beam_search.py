"""Beam search against trying everything, and against the plain algorithm in Python."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.generation import Beam, Rules, StopStrings, beam_search, decode

EOS = 2
PROMPTS = [[3, 1, 0, 1], [1], [0, 3, 3]]


def everything(model, prompt, steps, penalty, eos=EOS):
    """All continuations with their scores, best first."""
    found = []
    for ids in itertools.product(range(model.words), repeat=steps):
        ids = list(ids[: ids.index(eos) + 1]) if eos in ids else list(ids)
        score = sum(model.next_likelihoods(prompt + ids[:i])[token] for i, token in enumerate(ids))
        found.append((score / len(ids) ** penalty, [i for i in ids if i != eos]))
    unique = {tuple(ids): (score, ids) for score, ids in found}
    return sorted(unique.values(), key=lambda pair: -pair[0])


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_a_beam_as_wide_as_the_tree_finds_what_trying_everything_finds(tiny_model, penalty):
    model = tiny_model(words=4, seed=3)
    beam = Beam(num_beams=64, length_penalty=penalty, num_returned=5, early_stopping="never")
    prompts = tf.ragged.constant(PROMPTS, dtype=tf.int32)
    ids, scores = beam_search(model, prompts, max_new_tokens=3, beam=beam, eos_id=EOS)
    for row, prompt in enumerate(PROMPTS):
        wanted = everything(model, prompt, 3, penalty)[:5]
        assert ids[row].to_list() == [ids for _, ids in wanted]
        np.testing.assert_allclose(scores[row], [score for score, _ in wanted], rtol=1e-4)


def plain_search(model, prompt, steps, beam, eos=EOS, bad=()):
    """The algorithm of transformers for one row, with lists."""
    running, finished = [(0.0, [])], []
    for length in range(1, steps + 1):
        ways = []
        for score, ids in running:
            likelihoods = model.next_likelihoods(prompt + ids)
            likelihoods[list(bad)] = -np.inf
            ways += [(score + likelihoods[word], [*ids, word]) for word in range(model.words)]
        ways = [way for way in ways if way[0] > -np.inf]
        ways = sorted(ways, key=lambda way: -way[0])[: 2 * beam.num_beams]
        ended = [ids[-1] == eos or length == steps for _, ids in ways]
        for way, end in list(zip(ways, ended, strict=True))[: beam.num_beams]:
            if end:
                finished.append((way[0] / length**beam.length_penalty, way[1]))
        finished = sorted(finished, key=lambda way: -way[0])[: beam.num_beams]
        running = [way for way, end in zip(ways, ended, strict=True) if not end]
        running = running[: beam.num_beams]
        full = len(finished) == beam.num_beams
        if not running or (full and beam.early_stopping is True):
            break
        hoped = steps if beam.early_stopping == "never" and beam.length_penalty > 0 else length
        if full and running[0][0] / hoped**beam.length_penalty <= finished[-1][0]:
            break
    return [([i for i in ids if i != eos], score) for score, ids in finished]


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    num_beams=st.integers(1, 4),
    penalty=st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]),
    early_stopping=st.sampled_from([False, True, "never"]),
    budgets=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    bad=st.sampled_from([(), (1,)]),
)
def test_equals_the_plain_algorithm(
    tiny_model, seed, num_beams, penalty, early_stopping, budgets, bad
):
    model = tiny_model(words=6, seed=seed)
    beam = Beam(num_beams, penalty, num_beams, early_stopping)
    ids, scores = beam_search(
        model,
        tf.ragged.constant(PROMPTS, dtype=tf.int32),
        max_new_tokens=tf.constant(budgets),
        beam=beam,
        rules=Rules(bad_words=[bad]) if bad else None,
        eos_id=EOS,
    )
    for row, prompt in enumerate(PROMPTS):
        wanted = plain_search(model, prompt, budgets[row], beam, bad=bad)
        assert ids[row].to_list()[: len(wanted)] == [ids for ids, _ in wanted]
        np.testing.assert_allclose(
            scores[row, : len(wanted)], [score for _, score in wanted], rtol=1e-3, atol=1e-4
        )
        assert (scores[row, len(wanted) :].numpy() == -1e9).all()


def test_prompts_are_read_once(tiny_model):
    model = tiny_model(words=5)
    seen = []
    read = model.read_prompt
    model.read_prompt = lambda ids, *rest: seen.append(ids.shape) or read(ids, *rest)
    beam_search(model, tf.constant([[1, 2], [3, 4]]), max_new_tokens=3, beam=Beam(3))
    assert seen == [(2, 2)]


def test_in_graph_with_unknown_batch_and_lengths(tiny_model):
    model, beam = tiny_model(words=7, seed=5), Beam(3, num_returned=2)
    traces = []

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32)], autograph=False)
    def search(prompts):
        traces.append(1)
        stop = StopStrings(tf.constant(list("abcdefg")), tf.constant(["de"]))
        rules = Rules(no_repeat_ngram_size=2, repetition_penalty=1.1)
        return beam_search(
            model, prompts, max_new_tokens=5, beam=beam, rules=rules, stop=stop, eos_id=EOS
        )

    for prompts in (PROMPTS, PROMPTS[1:2], PROMPTS[1:]):
        ids, scores = search(tf.ragged.constant(prompts, dtype=tf.int32))
        for row, prompt in enumerate(prompts):
            alone, score = search(tf.ragged.constant([prompt], dtype=tf.int32))
            assert alone.to_list() == [ids[row].to_list()]
            np.testing.assert_allclose(score[0], scores[row], rtol=1e-5)
    nobody = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int32), tf.zeros([0], tf.int64))
    assert search(nobody)[0].to_list() == []
    assert len(traces) == 1


def test_no_new_tokens_are_the_best_continuation_of_a_row_without_a_budget(tiny_model):
    ids, scores = beam_search(
        tiny_model(words=5),
        tf.constant([[1, 2], [1, 2]]),
        max_new_tokens=tf.constant([0, 2]),
        beam=Beam(2, num_returned=2),
    )
    assert ids[0].to_list() == [[], []]
    assert scores[0].numpy().tolist() == [0.0, -1e9]
    assert [len(row) for row in ids[1].to_list()] == [2, 2]


def test_a_row_in_which_everything_is_forbidden_ends_there(tiny_model):
    ids, scores = beam_search(
        tiny_model(words=3),
        tf.constant([[1]]),
        max_new_tokens=4,
        beam=Beam(2, num_returned=2),
        rules=Rules(bad_words=[[0], [1], [2]]),
    )
    assert ids.to_list() == [[[], []]]
    assert scores.numpy().tolist() == [[0.0, -1e9]]  # the second is none


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), size=st.integers(1, 2), bad=st.sampled_from([[], [[1]], [[2]]]))
def test_one_beam_ends_where_greedy_decoding_ends(tiny_model, seed, size, bad):
    """The words run out: no n-gram may come twice."""
    model = tiny_model(words=3, seed=seed)
    prompts = tf.ragged.constant([[0, 1], [2]], dtype=tf.int32)
    rules = Rules(no_repeat_ngram_size=size, bad_words=bad)
    asked = {"max_new_tokens": 12, "rules": rules}
    found, scores = beam_search(model, prompts, beam=Beam(1, early_stopping=True), **asked)
    greedy = decode(model, prompts, **asked).to_list()
    assert [row[0] for row in found.to_list()] == greedy
    assert max(map(len, greedy)) < 12 and (scores.numpy() > -1e8).all()


def test_hypotheses_that_end_for_want_of_words_are_compared_as_others_are(tiny_model):
    """A brute force over the few ways that the rules leave."""
    model = tiny_model(words=3, seed=4)
    rules, prompt = Rules(no_repeat_ngram_size=1), [0]
    beam = Beam(num_beams=8, num_returned=2, early_stopping="never")
    ids, scores = beam_search(
        model, tf.constant([prompt]), max_new_tokens=9, beam=beam, rules=rules
    )
    wanted = []
    for new in ([1, 2], [2, 1]):  # then every word has come
        sums = [model.next_likelihoods(prompt + new[:i])[new[i]] for i in range(2)]
        wanted.append((sum(sums) / 3, new))  # two words and the end
    wanted.sort(reverse=True)
    assert ids[0].to_list() == [new for _, new in wanted]
    np.testing.assert_allclose(scores[0], [score for score, _ in wanted], rtol=1e-4)


def test_a_stop_string_ends_a_continuation(tiny_model):
    model = tiny_model(words=4, seed=3)
    words = tf.constant(["a", "b", "c", "d"])
    ids, _ = beam_search(
        model,
        tf.constant([PROMPTS[0]]),
        max_new_tokens=6,
        beam=Beam(8, num_returned=8),
        stop=StopStrings(words, tf.constant(["ab", "c"])),
    )
    texts = ["".join("abcd"[i] for i in row) for row in ids.to_list()[0]]
    assert any(len(text) < 6 for text in texts)
    for text in texts:
        assert "ab" not in text[:-1] and "c" not in text[:-1]
        assert len(text) == 6 or text.endswith(("ab", "c"))
