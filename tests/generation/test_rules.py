"""Rules against transformers' processors, one by one, and together in the loop."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    TFMinLengthLogitsProcessor,
    TFNoBadWordsLogitsProcessor,
    TFNoRepeatNGramLogitsProcessor,
    TFRepetitionPenaltyLogitsProcessor,
)

from tfllm.generation import Rules, decode
from tfllm.generation.ruling import apply_rules, ready_rules

WORDS, EOS = 7, 2

ids = st.integers(0, WORDS - 1)
logits = st.lists(st.integers(-72, 72).map(lambda i: i / 8), min_size=WORDS, max_size=WORDS)
rows = st.lists(st.tuples(st.lists(ids, min_size=1, max_size=9), logits), min_size=1, max_size=3)


def ruled(rules: Rules, history: list[list[int]], new: int, logits: list[list[float]]):
    """Rules applied to left-padded rows, whose last `new` ids are the continuation."""
    longest = max(map(len, history))
    padded = tf.constant([[-1] * (longest - len(row)) + row for row in history])
    tensors = ready_rules(rules, tf.constant(len(history)))
    if tensors is None:
        return np.array(logits, np.float32)
    width, count = tf.constant(longest - new), tf.constant(new)
    return apply_rules(tensors, tf.constant(logits), padded, width, count, EOS).numpy()


def one_by_one(processor, rows):
    return np.concatenate(
        [processor(tf.constant([row]), tf.constant([logits]), len(row)) for row, logits in rows]
    )


@settings(max_examples=10)
@given(rows, st.sampled_from([0.5, 1.3, 4.0]))
def test_repetition_penalty_is_that_of_transformers(rows, penalty):
    # A logit of 0 stays 0 in both.
    history, logits = map(list, zip(*rows, strict=True))
    found = ruled(Rules(repetition_penalty=penalty), history, 0, logits)
    wanted = one_by_one(TFRepetitionPenaltyLogitsProcessor(penalty), rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@settings(max_examples=12)
@given(rows, st.integers(1, 5))
def test_no_repeated_ngrams_as_in_transformers(rows, size):
    history, logits = map(list, zip(*rows, strict=True))
    found = ruled(Rules(no_repeat_ngram_size=size), history, 0, logits)
    wanted = one_by_one(TFNoRepeatNGramLogitsProcessor(size), rows)
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=12)
@given(rows, st.lists(st.lists(ids, min_size=1, max_size=4), min_size=1, max_size=4))
def test_bad_words_as_in_transformers(rows, bad_words):
    history, logits = map(list, zip(*rows, strict=True))
    found = ruled(Rules(bad_words=bad_words), history, 0, logits)
    for row, (ids, scores) in enumerate(rows):
        # transformers overlooks a sequence that all of the row so far begins; we don't.
        heard = [bad for bad in bad_words if len(bad) <= len(ids)]
        wanted = tf.constant([scores])
        if heard:
            wanted = TFNoBadWordsLogitsProcessor(heard, EOS)(tf.constant([ids]), wanted, len(ids))
        wanted = wanted.numpy()[0]
        for bad in bad_words:
            if bad[:-1] == ids:
                wanted[bad[-1]] = -np.inf
        np.testing.assert_array_equal(found[row], wanted)


@settings(max_examples=10)
@given(rows, st.integers(0, 3), st.integers(0, 3))
def test_min_new_tokens_as_in_transformers(rows, new, least):
    rows = [(row * 3, logits) for row, logits in rows]
    history, logits = map(list, zip(*rows, strict=True))
    found = ruled(Rules(min_new_tokens=least), history, new, logits)
    for row, (ids, scores) in enumerate(rows):
        processor = TFMinLengthLogitsProcessor(len(ids) - new + least, EOS)
        wanted = processor(tf.constant([ids]), tf.constant([scores]), len(ids))
        np.testing.assert_array_equal(found[row], wanted[0])


def test_presence_and_frequency_count_the_continuation_alone():
    rules = Rules(presence_penalty=0.5, frequency_penalty=tf.constant([0.25, -1.0]))
    history = [[5, 5, 1, 1, 3], [0, 0, 4, 4, 4]]
    found = ruled(rules, history, 3, [[1.0] * WORDS, [1.0] * WORDS])
    assert found[0].tolist() == [1.0, 0.0, 1.0, 0.25, 1.0, 1.0, 1.0]
    assert found[1].tolist() == [1.0, 1.0, 1.0, 1.0, 3.5, 1.0, 1.0]


def test_each_row_has_its_own_settings_and_padding_says_nothing():
    rules = Rules(
        repetition_penalty=tf.constant([1.0, 2.0, 1.0]),
        no_repeat_ngram_size=tf.constant([2, 0, 3]),
        min_new_tokens=tf.constant([0, 1, 0]),
    )
    found = ruled(rules, [[3, 4, 3], [4], [3, 3]], 0, [[2.0] * WORDS] * 3)
    inf = np.inf
    assert found.tolist() == [
        [2.0, 2.0, 2.0, 2.0, -inf, 2.0, 2.0],
        [2.0, 2.0, -inf, 2.0, 1.0, 2.0, 2.0],
        [2.0] * WORDS,
    ]


def test_rules_that_change_nothing_are_no_rules():
    assert ready_rules(Rules(), tf.constant(2)) is None
    assert ready_rules(None, tf.constant(2)) is None
    assert not ready_rules(Rules(min_new_tokens=3), tf.constant(2)).look_back


@pytest.mark.parametrize(
    "prefix",
    [[[4, 5], [], [1, 1, 1]], tf.ragged.constant([[4, 5], [], [1, 1, 1]], dtype=tf.int64)],
    ids=["lists", "ragged"],
)
def test_a_forced_prefix_comes_first_whatever_is_forbidden(tiny_model, prefix):
    prompts = tf.constant([[3], [3], [3]])
    model = tiny_model(words=WORDS)
    rules = Rules(forced_prefix=prefix, bad_words=[[5], [1]], no_repeat_ngram_size=1)
    found = decode(model, prompts, max_new_tokens=5, rules=rules).to_list()
    assert found[0][:2] == [4, 5]
    assert found[2][:3] == [1, 1, 1]
    free = decode(model, prompts[1:2], max_new_tokens=5, rules=rules._replace(forced_prefix=None))
    assert found[1] == free.to_list()[0]
    for row, forced in zip(found, [2, 0, 3], strict=True):
        assert not {5, 1} & set(row[forced:])
        assert len(set(row[forced:]) | {3}) == len(row[forced:]) + 1


def test_one_forced_prefix_for_all_rows(tiny_model):
    rules = Rules(forced_prefix=[6, 0])
    found = decode(tiny_model(words=WORDS), tf.constant([[3], [1]]), max_new_tokens=3, rules=rules)
    assert [row[:2] for row in found.to_list()] == [[6, 0], [6, 0]]


def test_a_row_ends_where_everything_is_forbidden(tiny_model):
    prompts = tf.ragged.constant([[0], [1, 2, 3]], dtype=tf.int32)
    model = tiny_model(words=4)
    rules = Rules(no_repeat_ngram_size=tf.constant([0, 1]))
    found = decode(model, prompts, max_new_tokens=4, rules=rules).to_list()
    assert found[1] == [0]
    assert len(found[0]) == 4


def by_hand(model, prompt, steps, rules: Rules, eos: int) -> list[int]:
    """Greedy decoding with rules in plain Python, for one row."""
    ids, new = list(prompt), []
    for _ in range(steps):
        scores = model.next_logits(ids)
        for word in set(ids):
            factor = rules.repetition_penalty
            scores[word] = scores[word] * factor if scores[word] < 0 else scores[word] / factor
        for word in set(new):
            scores[word] -= rules.presence_penalty + rules.frequency_penalty * new.count(word)
        size = rules.no_repeat_ngram_size
        grams = {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)}
        for word in range(len(scores)):
            tail = [*ids[len(ids) - size + 1 :], word] if len(ids) >= size - 1 else None
            if size and tail and tuple(tail) in grams:
                scores[word] = -np.inf
            if any([*ids, word][-len(bad) :] == bad for bad in rules.bad_words):
                scores[word] = -np.inf
        if len(new) < rules.min_new_tokens:
            scores[eos] = -np.inf
        top = np.sort(scores)[::-1]
        if top[0] == -np.inf:
            break
        assert top[0] - top[1] > 1e-4, "a near-tie: choose another seed"
        if scores.argmax() == eos:
            break
        new.append(int(scores.argmax()))
        ids.append(new[-1])
    return new


def test_all_rules_together_in_the_loop(tiny_model):
    model = tiny_model(words=12, seed=8)
    rules = Rules(1.4, 0.3, 0.2, 2, [[5], [1, 3], [0, 4, 6]], 4)
    prompts = [[3, 1, 4, 1, 5, 1], [9], [2, 6, 5, 3]]
    ragged = tf.ragged.constant(prompts, dtype=tf.int32)
    found = decode(model, ragged, max_new_tokens=9, rules=rules, eos_id=7).to_list()
    assert found == [by_hand(model, prompt, 9, rules, 7) for prompt in prompts]
    free = decode(model, ragged, max_new_tokens=9, eos_id=7).to_list()
    assert free != found
