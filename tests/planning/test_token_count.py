import random
import statistics

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from tfllm.planning import count_tokens, cut_texts, draw_sample


def words_of(texts):
    return [len(text.split()) for text in texts]


def texts_of(count, seed=0):
    rng = random.Random(seed)
    return [
        " ".join("x" * rng.randint(1, 9) for _ in range(rng.randint(1, 60))) for _ in range(count)
    ]


def test_few_texts_are_all_counted():
    texts = texts_of(50)
    count = count_tokens(draw_sample(iter(texts), 50), words_of, row_tokens=20, batch=7)
    lengths = words_of(texts)
    assert (count.rows, count.counted, count.standard_error) == (50, 50, 0.0)
    assert count.tokens == sum(lengths)
    assert count.row_tokens == statistics.fmean(min(length, 20) for length in lengths)
    assert count.cut_share == sum(length > 20 for length in lengths) / 50


def test_a_samples_estimate_errs_as_much_as_it_says():
    texts = texts_of(3000)
    truth = sum(words_of(texts))
    errors = []
    for seed in range(200):
        count = count_tokens(draw_sample(texts, 100, seed=seed), words_of, row_tokens=99)
        assert count.counted == 100 and count.rows == 3000
        errors.append((count.tokens - truth) / count.standard_error)
    # Of a normal distribution 68% lie within one standard error, and 95% within two.
    assert 0.55 < statistics.fmean(abs(e) < 1 for e in errors) < 0.8
    assert statistics.fmean(abs(e) < 2 for e in errors) > 0.9
    assert abs(statistics.fmean(errors)) < 0.3


def test_every_text_is_as_likely_to_be_drawn():
    drawn = [0] * 20
    for seed in range(2000):
        for text in draw_sample(map(str, range(20)), 5, seed=seed).texts:
            drawn[int(text)] += 1
    assert all(400 < count < 600 for count in drawn)


def test_the_same_seed_draws_the_same():
    texts = texts_of(300)
    assert draw_sample(texts, 9, seed=4) == draw_sample(texts, 9, seed=4)
    assert draw_sample(texts, 9, seed=4) != draw_sample(texts, 9, seed=5)


def test_no_texts_are_no_tokens():
    count = count_tokens(draw_sample([], 5), words_of, row_tokens=9)
    assert (count.rows, count.tokens, count.row_tokens) == (0, 0.0, 0.0)


text = st.text(st.sampled_from("ab .,'\n\t9é"), max_size=200)


@given(st.lists(text, max_size=4), st.integers(1, 30))
def test_pieces_are_the_text_and_cut_no_word(texts, characters):
    pieces = list(cut_texts(texts, characters))
    assert "".join(pieces) == "".join(texts)
    words = [word for whole in texts for word in whole.split()]
    assert [word for piece in pieces for word in piece.split()] == words


@given(text, st.integers(1, 30))
def test_pieces_have_the_tokens_of_the_whole(whole, characters):
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def tokens(text):
        return [word for word, _ in split.pre_tokenize_str(text)]

    pieces = [token for piece in cut_texts([whole], characters) for token in tokens(piece)]
    assert pieces == tokens(whole)
