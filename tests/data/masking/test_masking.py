from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data import Masking
from tfllm.data.masking.units import span_units
from tfllm.errors import InputError
from tfllm.text import train_byte_level_bpe, train_wordpiece

MASK, CLS, SEP = 3, 1, 2
MASKING = Masking(mask_id=MASK, vocabulary_size=60, special_ids=(0, CLS, SEP, MASK))
# A row is texts between special tokens, a text words, a word its number of tokens.
ROWS = st.lists(
    st.lists(st.lists(st.integers(1, 5), max_size=12), min_size=1, max_size=2),
    min_size=1,
    max_size=6,
)
UNITS = st.sampled_from(["token", "word", "span"])
RATES = st.sampled_from([0.05, 0.15, 0.3, 0.5])


def lay_out(rows):
    """Ids 10, 11, …, word starts, lengths, and the number of each token's word or -1."""
    ids, starts, words, lengths, word = [], [], [], [], -1
    for texts in rows:
        before = len(ids)
        for text in texts:
            ids.append(CLS)
            starts.append(1)
            words.append(-1)
            for size in text:
                word += 1
                ids += [10 + len(ids) % 50 for _ in range(size)]
                starts += [1] + [0] * (size - 1)
                words += [word] * size
        ids.append(SEP)
        starts.append(1)
        words.append(-1)
        lengths.append(len(ids) - before)
    return [np.array(values) for values in (ids, starts, lengths, words)]


@settings(max_examples=150, deadline=None)
@given(ROWS, UNITS, RATES, st.integers(0, 99))
def test_no_word_is_split_and_a_row_has_its_share(rows, unit, rate, epoch):
    ids, starts, lengths, words = lay_out(rows)
    masking = replace(MASKING, unit=unit, rate=rate)
    numbers = np.arange(len(lengths)) * 7
    places, read = masking.draw(ids, starts, lengths, numbers, seed=5, epoch=epoch)
    assert (np.diff(places) > 0).all() and not np.isin(ids[places], masking.special_ids).any()
    assert not np.isin(read, (0, CLS, SEP)).any()
    masked = np.zeros(len(ids), bool)
    masked[places] = True
    largest = 1
    if unit != "token":
        for word in range(words.max() + 1):
            assert masked[words == word].all() or not masked[words == word].any()
        largest = max(1, np.bincount(words[words >= 0], minlength=1).max())
        largest *= 3 if unit == "span" else 1
    for row, of_row in zip(rows, np.split(masked, np.cumsum(lengths)[:-1]), strict=True):
        assert abs(of_row.sum() - rate * sum(map(sum, row))) < largest


@settings(max_examples=60, deadline=None)
@given(ROWS, UNITS, st.integers(0, 9), st.randoms(use_true_random=False))
def test_a_rows_masks_are_its_own(rows, unit, seed, random):
    """Alone, or among others in another order."""
    masking = replace(MASKING, unit=unit)
    numbers = list(range(len(rows)))

    def draw(which):
        ids, starts, lengths, _ = lay_out([rows[i] for i in which])
        ids = np.where(np.isin(ids, masking.special_ids), ids, 20)
        places, read = masking.draw(ids, starts, lengths, np.array(which), seed=seed, epoch=2)
        bounds = np.cumsum(lengths) - lengths
        row = np.searchsorted(bounds, places, side="right") - 1
        column = places - bounds[row]
        return [(column[row == i].tolist(), read[row == i].tolist()) for i in range(len(which))]

    together = draw(numbers)
    assert [draw([i])[0] for i in numbers] == together
    random.shuffle(numbers)
    assert draw(numbers) == [together[i] for i in numbers]


@pytest.mark.parametrize("unit", ["token", "word", "span"])
@pytest.mark.parametrize("rate", [0.15, 0.5])
def test_every_token_of_every_row_is_as_likely(unit, rate):
    """Words of one token and of three, rows of four tokens and of one: all at the rate."""
    masking = replace(MASKING, unit=unit, rate=rate)
    times = 20_000
    for row in ([[1, 3]], [[1]], [[2], [1, 1]]):
        ids, starts, lengths, words = lay_out([row])
        places, _ = masking.draw(
            np.tile(ids, times),
            np.tile(starts, times),
            np.repeat(lengths, times),
            np.arange(times),
            seed=1,
            epoch=0,
        )
        shares = np.bincount(places % len(ids), minlength=len(ids)) / times
        deviation = np.sqrt(rate * (1 - rate) / times)
        np.testing.assert_allclose(shares[words >= 0], rate, atol=5 * deviation)


def long_rows(rows=400, words=60):
    return lay_out([[[1, 2, 1] * (words // 3)]] * rows)


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_what_stands_at_masked_places(unit):
    ids, starts, lengths, words = long_rows()
    masking = replace(MASKING, unit=unit, mask_share=0.7, random_share=0.2)
    places, read = masking.draw(ids, starts, lengths, np.arange(len(lengths)), seed=3, epoch=1)
    drawn = (read != MASK) & (read != ids[places])
    at = 0.02 if unit == "span" else 0.015
    assert np.mean(read == MASK) == pytest.approx(0.7, abs=at)
    assert np.mean(drawn) == pytest.approx(0.2 * 55 / 56, abs=at)
    random = np.bincount(read[drawn], minlength=60)
    assert (random[[i for i in range(60) if i not in masking.special_ids]] > 0).all()
    if unit == "span":  # a word never stands in two spans
        for word in range(0, words[-2], 50):
            kinds = read[words[places] == word] == MASK
            assert kinds.all() or not kinds.any()


def test_epochs_and_seeds_differ_and_are_repeated():
    ids, starts, lengths, _ = long_rows(40)
    rows = np.arange(40)
    draws = {
        (seed, epoch): MASKING.draw(ids, starts, lengths, rows, seed=seed, epoch=epoch).places
        for seed in (0, 1)
        for epoch in (0, 1, 10**6)
    }
    assert len({places.tobytes() for places in draws.values()}) == len(draws)
    again = MASKING.draw(ids, starts, lengths, rows, seed=1, epoch=10**6).places
    np.testing.assert_array_equal(draws[1, 10**6], again)
    # Rows of one epoch are no copies of each other either.
    by_row = draws[0, 0] - np.repeat(np.cumsum(lengths) - lengths, 12)[: len(draws[0, 0])]
    assert len({tuple(part) for part in by_row.reshape(-1, 12)}) == 40


def test_masks_are_the_same_on_every_machine():
    """Runs that are resumed with another version of tfllm go on with the same masks."""
    ids, starts, lengths, _ = lay_out([[[1, 2, 3, 1, 2, 3]], [[2, 2, 2], [1, 1, 1]]])
    for unit, places in PINNED.items():
        masking = replace(MASKING, unit=unit, rate=0.3)
        drawn = masking.draw(ids, starts, lengths, np.array([4, 9]), seed=7, epoch=2)
        assert (drawn.places.tolist(), drawn.ids.tolist()) == places


PINNED = {
    "token": ([1, 4, 11, 12, 16, 20, 24], [3, 3, 3, 3, 3, 3, 3]),
    "word": ([1, 4, 5, 6, 19, 20, 23, 24], [3, 3, 3, 3, 3, 3, 33, 3]),
    "span": ([1, 2, 3, 4, 5, 6, 7, 19, 20], [3, 3, 3, 3, 3, 3, 3, 3, 3]),
}


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 4))
def test_spans_tile_words(rows, most):
    ids, starts, lengths, words = lay_out(rows)
    places = np.flatnonzero(words >= 0)
    row = np.repeat(np.arange(len(lengths)), lengths)[places]
    begins = np.diff(words[places], prepend=-1) != 0
    numbers = np.arange(len(lengths))
    spans = span_units(begins, places, row, numbers, max_words=most, seed=0, epoch=0)
    assert not (spans & ~begins).any()
    number = np.cumsum(spans)
    for span in range(1, number.max(initial=0) + 1):
        inside = number == span
        assert (np.diff(places[inside]) == 1).all()  # consecutive, of one text of one row
        assert begins[inside].sum() <= most
    if most == 1:
        np.testing.assert_array_equal(spans, begins)


def test_lengths_of_spans():
    """One word as likely as two and three thirds: 1 : 1/2 : 1/3."""
    ids, starts, lengths, words = lay_out([[[1] * 300]] * 100)
    places = np.flatnonzero(words >= 0)
    row = np.repeat(np.arange(100), 300)
    every = np.ones(len(places), bool)
    spans = span_units(every, places, row, np.arange(100), max_words=3, seed=0, epoch=0)
    sizes = np.bincount(np.diff(np.flatnonzero(spans)), minlength=4)[1:]
    np.testing.assert_allclose(sizes / sizes.sum(), np.array([6, 3, 2]) / 11, atol=0.015)


@pytest.mark.parametrize("rate", [0, -0.1, 0.51, 1, float("nan")])
def test_rates(rate):
    with pytest.raises(InputError, match="^--mask_rate must be above 0 and at most 0.5"):
        replace(MASKING, rate=rate)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"unit": "letter"}, "^--mask_unit must be one of token, word, span. Received: 'letter'"),
        ({"max_span": 0}, "^max_span must be at least 1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "together at most 1"),
        ({"random_share": -0.1}, "at least 0"),
        ({"special_ids": tuple(range(60))}, "nothing but special tokens"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(InputError, match=message):
        replace(MASKING, **settings)


def test_ids_come_from_the_tokenizer():
    bert = train_wordpiece(["the cat sat on the mat"] * 3, 60)
    masking = Masking.of(bert, rate=0.2, unit="word")
    assert masking.mask_id == bert.special_tokens["[MASK]"]
    assert masking.special_ids == tuple(sorted(bert.special_tokens.values()))
    assert masking.vocabulary_size == bert.vocabulary_size and masking.rate == 0.2
    assert masking.identity()["unit"] == "word"
    gpt = train_byte_level_bpe(["the cat sat"] * 3, 280)
    with pytest.raises(InputError, match="no \\[MASK\\] token.*Its special tokens: ") as raised:
        Masking.of(gpt)
    assert "\n" not in str(raised.value)
