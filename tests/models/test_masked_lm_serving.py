"""A masked language model as it is served, and what it says of texts."""

import numpy as np
import pytest
import tensorflow as tf
from transformers import AutoConfig, BertConfig

from tfllm.errors import InputError
from tfllm.export import export_bundle
from tfllm.models import MaskedLM, TextEmbedder
from tfllm.serving import Session
from tfllm.text import Preprocessor, WordPiece, train_byte_level_bpe, train_wordpiece

WORDS = "the cat sat on the mat and a dog saw the old house by the sea"


@pytest.fixture(scope="module")
def tokenizer() -> WordPiece:
    return train_wordpiece([WORDS, WORDS.upper(), "0 1 2 日本"] * 2, 90)


@pytest.fixture(scope="module")
def model(tokenizer) -> MaskedLM:
    tf.keras.utils.set_random_seed(1)
    config = BertConfig(
        vocab_size=tokenizer.vocabulary_size + 3,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    model = MaskedLM.from_config(config)
    # Words alone, that a text shows as they are; what pieces become is tested below.
    return favour(model, tokenizer, lambda token: token.isalpha())


def favour(model, tokenizer, is_wanted) -> MaskedLM:
    """Let the model say only some words."""
    bias = np.full([model.config.vocab_size], -50.0, np.float32)
    for token, i in tokenizer.fast.get_vocab().items():
        if is_wanted(token):
            bias[i] = 0.0
    model.head.bias.assign(bias)
    return model


@pytest.fixture(scope="module")
def served(model, tokenizer):
    return model.signatures(Preprocessor(tokenizer, sequence_length=16))


def likeliest(model, tokenizer, text: str, k: int = 1) -> tuple[list[list[str]], np.ndarray]:
    """Each mask's words and their shares, without a graph."""
    features = Preprocessor(tokenizer, sequence_length=16)([text])
    (places,) = np.nonzero(features["input_ids"][0] == tokenizer.mask_id)
    shares = tf.nn.softmax(model(features)[0]).numpy()[places]
    best = np.argsort(-shares, axis=1)[:, :k]
    words = [[tokenizer.fast.id_to_token(int(i)) for i in row] for row in best]
    return words, np.take_along_axis(shares, best, 1)


@pytest.mark.parametrize(
    "text",
    ["the [MASK] sat", "[MASK]", " [MASK][MASK] the  [MASK]!\n", "日[MASK] Ünï [MASK].  🙂 "],
)
def test_masks_are_filled_and_all_else_stays(model, tokenizer, served, text):
    words, _ = likeliest(model, tokenizer, text)
    expected = text
    for (word,) in words:
        expected = expected.replace("[MASK]", word, 1)
    (filled,) = served["serving_default"](tf.constant([text]))["text"].numpy()
    assert filled.decode() == expected


@pytest.mark.parametrize(
    "text", ["", "  The CAT\tsat ", "\ufeffa\x00b", "e\u0301 🙂 日本", "a" * 99]
)
def test_a_text_without_masks_comes_back(served, text):
    beside = tf.constant(["[MASK] and [MASK]", text])
    assert served["serving_default"](beside)["text"].numpy()[1].decode() == text


def test_masks_that_are_not_read_stay(served):
    text = "the cat " * 20 + "[MASK]"
    assert served["serving_default"](tf.constant([text]))["text"].numpy()[0].decode() == text


def test_a_piece_goes_on_from_the_word_before(model, tokenizer):
    pieces = [t for t in tokenizer.fast.get_vocab() if t.startswith("##")]
    other = MaskedLM(model.backbone)
    favour(other, tokenizer, lambda token: token == pieces[0])
    signatures = other.signatures(Preprocessor(tokenizer, sequence_length=16))
    filled = signatures["serving_default"](tf.constant(["the [MASK], [MASK]"]))["text"]
    piece = pieces[0].removeprefix("##")
    assert filled.numpy()[0].decode() == f"the{piece},{piece}"
    found = signatures["fill_mask"](tf.constant(["a [MASK]"]), tf.constant([1]))
    assert found["tokens"].numpy()[0, 0, 0].decode() == pieces[0]


def test_candidates(model, tokenizer, served):
    texts = ["the [MASK] sat on [MASK]", "no mask", "[MASK] dog"]
    found = served["fill_mask"](tf.constant(texts), tf.constant([2, 5, 4]))
    tokens, scores = found["tokens"].numpy(), found["scores"].numpy()
    assert tokens.shape == scores.shape == (3, 2, 5)
    assert scores.dtype == np.float32
    for row, text, k in zip(range(3), texts, (2, 5, 4), strict=True):
        words, shares = likeliest(model, tokenizer, text, k)
        number = len(words)
        said = [[t.decode() for t in mask[:k]] for mask in tokens[row, :number]]
        assert said == words
        np.testing.assert_allclose(scores[row, :number, :k], shares, rtol=1e-4)
        assert not scores[row, number:].any() and not scores[row, :, k:].any()
        assert set(tokens[row, number:].ravel()) | set(tokens[row, :, k:].ravel()) <= {b""}
    # Numbers that can't be meant are taken as the nearest.
    assert served["fill_mask"](tf.constant(texts), tf.constant([0, -3, 1]))["tokens"].shape[2] == 1
    most = served["fill_mask"](tf.constant(texts), tf.constant([10**6] * 3))["tokens"].shape[2]
    assert most == model.config.vocab_size


def test_vectors_are_those_of_the_embedder(model, tokenizer, served):
    texts = ["the cat sat", "", "[MASK]"]
    expected = TextEmbedder(model.backbone)(Preprocessor(tokenizer, sequence_length=16)(texts))
    np.testing.assert_allclose(served["encode"](tf.constant(texts))["vector"], expected, atol=1e-6)


def test_byte_level_words_bring_their_space():
    tokenizer = train_byte_level_bpe(
        [WORDS] * 3, 300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    roles = {**tokenizer.special_roles, "mask_token": "<mask>", "pad_token": "<pad>"}
    tokenizer = type(tokenizer)(tokenizer.fast, special_roles=roles)
    config = AutoConfig.for_model(
        "roberta",
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        pad_token_id=tokenizer.pad_id,
    )
    model = MaskedLM.from_config(config)
    favour(model, tokenizer, lambda token: token == "Ġthe")
    fill = model.signatures(Preprocessor(tokenizer, sequence_length=16))["serving_default"]
    texts = ["", "<mask>", "<mask> sea", "on<mask> sea", "on <mask><mask> sea"]
    filled = [text.decode() for text in fill(tf.constant(texts))["text"].numpy()]
    assert filled == ["", "the", "the sea", "on the sea", "on the the sea"]


def test_tokenizers_that_can_not_ask(model, tokenizer):
    plain = WordPiece(
        tokenizer.fast, special_roles=tokenizer.special_roles, special_tokens_in_text=False
    )
    with pytest.raises(InputError, match=r"reads \[MASK\] in a text as plain text"):
        model.signatures(Preprocessor(plain, sequence_length=16))
    without = train_wordpiece([WORDS], 60, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    for ask in (
        lambda: model.signatures(Preprocessor(without, sequence_length=16)),
        lambda: model.pseudo_log_likelihoods(["a"], without),
    ):
        with pytest.raises(InputError, match="has no mask token"):
            ask()


def naive(model, tokenizer, text: str) -> list[float]:
    """One token hidden, one row, one softmax at a time."""
    whole = tokenizer.fast.encode(text).ids
    found = []
    for at in range(1, len(whole) - 1):
        row = [*whole]
        row[at] = tokenizer.mask_id
        logits = model(np.array([row], np.int32))[0, at]
        found.append(float(tf.nn.log_softmax(logits)[whole[at]]))
    return found


@pytest.mark.parametrize("batch_size", [1, 7])
def test_pseudo_likelihoods_equal_a_naive_loop(model, tokenizer, batch_size):
    texts = ["the cat sat on the mat", "", "a dog saw", "sea"]
    found = model.pseudo_log_likelihoods(texts, tokenizer, batch_size=batch_size)
    expected = [naive(model, tokenizer, text) for text in texts]
    for ours, theirs in zip(found.tokens, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    tokens = [score for row in expected for score in row]
    assert found.perplexity == pytest.approx(np.exp(-np.mean(tokens)), rel=1e-4)
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        model.pseudo_log_likelihoods(texts, tokenizer, batch_size=0)


def test_long_texts_are_scored_in_pieces(model, tokenizer):
    words = [w for w in WORDS.split() if len(tokenizer.fast.encode(w).ids) == 3]
    text = [words[i % len(words)] for i in range(30)]  # 22 fit between [CLS] and [SEP]
    found = model.pseudo_log_likelihoods([" ".join(text)], tokenizer)
    expected = naive(model, tokenizer, " ".join(text[:22])) + naive(
        model, tokenizer, " ".join(text[22:])
    )
    np.testing.assert_allclose(found.tokens[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_served_by_a_bundle(model, tokenizer, tmp_path):
    preprocess = Preprocessor(tokenizer, sequence_length=16)
    folder = export_bundle(
        model.signatures(preprocess),
        tmp_path,
        "tiny",
        modules=[model, preprocess],
        probes=model.probes(preprocess),
    )
    with Session(folder) as session:
        assert {"serving_default", "fill_mask", "encode", "tokens", "tokenize"} == set(
            session.signatures
        )
        texts = ["the [MASK] sat", "sea"]
        (word,), _ = likeliest(model, tokenizer, texts[0])
        filled = session.run("serving_default", {"text": texts})["text"]
        assert [t.decode() for t in filled] == [texts[0].replace("[MASK]", word[0]), "sea"]
        found = session.run("fill_mask", {"text": texts, "k": [2, 1]})
        assert found["tokens"][0, 0, 0].decode() == word[0]
        features = session.run("tokenize", {"text": texts})
        ids = session.run("tokens", features)["output_ids"]
        changed = ids != features["input_ids"]
        assert changed.sum() == 1 and ids[changed][0] == tokenizer.fast.token_to_id(word[0])
