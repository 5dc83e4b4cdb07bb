"""`generate`, `stream` and `score` of a real tiny GPT-2, with a real tokenizer."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config

from tfllm.errors import InputError
from tfllm.generation import Beam, Rules, Sampling
from tfllm.models import CausalLM
from tfllm.models.generation_prompts import word_bytes
from tfllm.models.lora import apply_lora, merge_lora
from tfllm.models.text_pieces import TextPieces
from tfllm.text import train_byte_level_bpe

TEXTS = ["to be", "é", "", "or not to", "日本 b"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_byte_level_bpe(["to be or not to be, é 日本 🙂"] * 4, 280)


@pytest.fixture(scope="module")
def model() -> CausalLM:
    config = GPT2Config(vocab_size=283, n_positions=24, n_embd=8, n_layer=2, n_head=2)
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(variable + 0.4 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer.fast.encode(text).ids or [tokenizer.bos_id]


def test_texts_are_the_ids_in_words(model, tokenizer):
    ids = model.generate(
        [ids_of(tokenizer, text) for text in TEXTS], max_new_tokens=9, eos_id=tokenizer.eos_id
    )
    wanted = [text.decode() for text in tokenizer.detokenize(ids).numpy()]
    assert model.generate(TEXTS, tokenizer=tokenizer, max_new_tokens=9) == wanted
    alone = [model.generate([text], tokenizer=tokenizer, max_new_tokens=9)[0] for text in TEXTS]
    assert alone == wanted


def test_a_mode_is_traced_once_for_all_batches_lengths_and_numbers(tokenizer):
    config = GPT2Config(vocab_size=283, n_positions=300, n_embd=8, n_layer=1, n_head=2)
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(0)
    for length in (1, 2, 7, 40, 41, 150, 299):
        ids = [rng.integers(0, 283, length).tolist() for _ in range(length % 3 + 1)]
        model.generate(ids, max_new_tokens=2)
    assert model._functions().traces == 1
    for heat in (0.5, 0.7, 1.1):
        sampling = Sampling(heat, top_k=int(10 * heat), seed=int(100 * heat))
        model.generate([[1, 2]], max_new_tokens=int(10 * heat), sampling=sampling)
    assert model._functions().traces == 2


def test_weights_that_change_are_seen(model):
    model = CausalLM.from_config(model.config)
    row = [[1, 2, 3, 4, 5]]

    def seen() -> tuple[list[int], float]:
        """What the traced functions give, which is what the model gives now."""
        ids = model.generate(row, max_new_tokens=8).to_list()[0]
        logits = model(tf.constant([row[0] + ids]))[0].numpy()
        assert ids == logits[4:-1].argmax(axis=-1).tolist()
        return ids, float(model.score(row).texts[0])

    def change(variables: list[tf.Variable], seed: int) -> None:
        rng = np.random.default_rng(seed)
        for variable in variables:
            variable.assign(variable + 0.4 * rng.standard_normal(variable.shape).astype("float32"))

    _, before = seen()
    change(model.weights, 4)
    _, trained = seen()
    assert abs(trained - before) > 1e-2 and model._functions().traces == 2
    apply_lora(model, rank=2, alpha=4, targets=["c_attn", "c_fc"])
    change([b.mlp.c_fc.lora_b for b in model.backbone.transformer.h], 5)
    ids, adapted = seen()
    assert abs(adapted - trained) > 1e-2
    merge_lora(model)
    assert seen() == (ids, pytest.approx(adapted, abs=1e-4))


def test_in_a_graph_texts_are_tensors(model, tokenizer):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def generate(texts):
        return model.generate(texts, tokenizer=tokenizer, max_new_tokens=6)

    wanted = model.generate(TEXTS, tokenizer=tokenizer, max_new_tokens=6)
    assert [text.decode() for text in generate(tf.constant(TEXTS)).numpy()] == wanted


def test_beams_give_one_or_several(model, tokenizer):
    def search(**beam):
        return model.generate(
            TEXTS[:2], tokenizer=tokenizer, max_new_tokens=5, beam=Beam(3, **beam)
        )

    several = search(num_returned=2)
    assert [len(row) for row in several] == [2, 2]
    assert search() == [row[0] for row in several]
    ids = model.generate([[1], [2, 3]], max_new_tokens=4, beam=Beam(3, num_returned=2))
    assert ids.shape[:2] == [2, 2]
    with pytest.raises(InputError, match="give one of beam and sampling"):
        model.generate([[1]], beam=Beam(2), sampling=Sampling())


def test_rules_reach_the_loop(model):
    plain = model.generate([[1, 2, 3]], max_new_tokens=6).to_list()[0]
    rules = Rules(bad_words=[[plain[2]]], forced_prefix=[plain[1]])
    ruled = model.generate([[1, 2, 3]], max_new_tokens=6, rules=rules).to_list()[0]
    assert ruled[0] == plain[1] and plain[2] not in ruled[1:]


def test_bad_words_may_be_ragged_in_any_way(model):
    plain = model.generate([[1, 2, 3]], max_new_tokens=6).to_list()[0]
    found = []
    for dtype in (tf.int32, tf.int64):
        bad = tf.ragged.constant([[plain[0]], [plain[2], 1]], dtype, row_splits_dtype=dtype)
        rules = Rules(bad_words=bad)
        found += model.generate([[1, 2, 3]], max_new_tokens=6, rules=rules).to_list()
    assert found[0] == found[1] and plain[0] not in found[0]
    none = model.generate([[1, 2, 3]], max_new_tokens=6, rules=Rules(bad_words=[])).to_list()
    assert none == [plain]


def test_of_no_texts_there_are_none(model, tokenizer):
    assert model.generate([], tokenizer=tokenizer, max_new_tokens=3) == []
    several = Beam(3, num_returned=2)
    assert model.generate([], tokenizer=tokenizer, max_new_tokens=3, beam=several) == []
    assert model.generate([], max_new_tokens=3).to_list() == []


@settings(max_examples=10)
@given(data=st.data())
def test_pieces_of_a_stream_are_the_text(model, tokenizer, data):
    prompt = data.draw(st.sampled_from(TEXTS))
    heat = data.draw(st.sampled_from([0.0, 0.7, 2.0]))
    sampling = Sampling(heat, seed=data.draw(st.integers(0, 50)))
    some = {"tokenizer": tokenizer, "max_new_tokens": 14, "sampling": sampling}
    (text,) = model.generate([prompt], **some)
    pieces = list(model.stream(prompt, **some))
    assert "".join(pieces) == text and all(pieces)
    if text.strip("\ufffd"):
        begin = data.draw(st.integers(0, len(text) - 1))
        stop = [text[begin : begin + data.draw(st.integers(1, 3))], "never"]
        (cut,) = model.generate([prompt], stop=stop, **some)
        assert "".join(model.stream(prompt, stop=stop, **some)) == cut
        if "\ufffd" not in text:
            assert cut == text[: text.index(stop[0])]


@given(st.binary(max_size=12), st.lists(st.binary(min_size=1, max_size=3), max_size=2), st.data())
def test_pieces_of_any_bytes_are_what_the_tokenizer_makes_of_them(text, stops, data):
    stops = [stop.decode("latin-1") for stop in stops]
    pieces = TextPieces(stops)
    given_back, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        given_back.append(pieces.add(rest[:size]))
        rest = rest[size:]
    given_back.append(pieces.end())
    ends = [(i, stop.encode()) for stop in stops for i in range(len(text) + 1)]
    found = [(i, -len(s)) for i, s in ends if text[:i].endswith(s)]
    kept = text[: sum(min(found))] if found else text
    wanted = tf.strings.unicode_transcode(kept, "UTF-8", "UTF-8").numpy().decode()
    assert "".join(given_back) == wanted


def test_half_a_character_and_half_a_stop_wait():
    pieces = TextPieces(["end."])
    emoji = "🙂".encode()
    assert pieces.add(b"a" + emoji[:3]) == "a"
    assert pieces.add(emoji[3:] + b"e") == "🙂"
    assert pieces.add(b"n") == "" and pieces.add(b"x") == "enx"
    assert pieces.add(b" end") == " " and pieces.add(b". more") == ""
    assert pieces.end() == ""


def test_scores_are_log_softmax(model, tokenizer):
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 283, n).tolist() for n in (5, 1, 24, 9, 2)]
    found = model.score(rows, batch_size=2)
    for row, likelihoods in zip(rows, found.tokens, strict=True):
        shares = tf.nn.log_softmax(model(tf.constant([row])))[0].numpy()
        wanted = shares[np.arange(len(row) - 1), row[1:]]
        np.testing.assert_allclose(likelihoods, wanted, atol=1e-5)
    assert found.counts.tolist() == [4, 0, 23, 8, 1]
    assert found.perplexity == pytest.approx(np.exp(-found.texts.sum() / 36))
    assert np.isnan(found.perplexities[1])
    texts = model.score(TEXTS, tokenizer=tokenizer, batch_size=3)
    begun = [[tokenizer.bos_id, *tokenizer.fast.encode(text).ids] for text in TEXTS]
    np.testing.assert_allclose(texts.texts, model.score(begun).texts, atol=1e-5)
    assert texts.counts.tolist() == [len(row) - 1 for row in begun]
    assert np.isnan(model.score([]).perplexity)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, t: m.generate(["a"]), "texts need a tokenizer"),
        (lambda m, t: m.generate("a", tokenizer=t), "give a list of texts. Received one text: 'a'"),
        (lambda m, t: m.generate([[1], []]), "prompt 1 has no tokens; begin it with a start token"),
        (
            lambda m, t: m.generate([[1], [1] * 20], max_new_tokens=6),
            "prompt 1 has 20 tokens, and with max_new_tokens=6 they exceed the model's 24 pos",
        ),
        (lambda m, t: m.generate([[1]], max_new_tokens=25, slide=True), "exceed the model's 24"),
        (
            lambda m, t: m.generate([[1], [2]], max_new_tokens=[2, 3, 4]),
            "max_new_tokens must be one for all rows, or one for each of the 2. Received: 3",
        ),
        (
            lambda m, t: m.generate([[1]] * 3, sampling=Sampling([0.5, 1.0])),
            "temperature must be one for all rows, or one for each of the 3. Received: 2",
        ),
        (lambda m, t: m.generate([[1], [4, 283]]), "prompt 1 must be of the model's 283 words"),
        (lambda m, t: m.generate(np.array([[1, -2]])), "prompt 0 must be .* Received: -2"),
        (lambda m, t: m.stream([1, 283], tokenizer=t), "prompt 0 must be of the model's 283"),
        (
            lambda m, t: m.stream("a", tokenizer=t, max_new_tokens=3, sampling=Sampling(-1.0)),
            "temperature must be a number of at least 0. Received: -1.0",
        ),
        (lambda m, t: m.generate([[1]], sampling=Sampling(seed=2**63)), "seed must be a whole"),
        (lambda m, t: m.generate([[1]], eos_id=283), "eos_id must be of the model's 283 words"),
        (lambda m, t: m.generate([[1]], sampling=Sampling(top_p=1.5)), "top_p must be a number be"),
        (lambda m, t: m.generate([[1]], stop=["a"]), "texts need a tokenizer"),
        (lambda m, t: m.generate(["a"], tokenizer=t, stop="a"), "stop must be a list of texts"),
        (lambda m, t: m.stream("a" * 30, tokenizer=t), "exceed the model's 24 positions"),
        (lambda m, t: m.score([[1] * 25]), "text 0 has 25 tokens, and the model 24 positions"),
        (lambda m, t: m.score([[1]], batch_size=0), "batch_size must be a whole number"),
        (lambda m, t: m.score([[1]], batch_size=1.5), "batch_size must be .* Received: 1.5"),
        (lambda m, t: m.generate(None), "rows of ids. Received: None"),
        (lambda m, t: m.generate(["a", 3], tokenizer=t), "prompt 1 is no text: 3"),
        (lambda m, t: m.generate([[1, "a"]]), "prompts must be rows of ids"),
        (lambda m, t: m.generate(np.zeros([1, 1, 1], int)), r"ids \[rows, positions\]. Rec.*1, 1"),
        (lambda m, t: m.generate(np.array([1.5])), "an array of float64"),
        (lambda m, t: m.generate(["\ud800"], tokenizer=t), "prompt 0 is no Unicode text"),
        (lambda m, t: m.generate(["a"], tokenizer=t, stop=[5]), "stop text 0 is no text. Rec.*5"),
        (
            lambda m, t: m.generate(["a"], tokenizer=t, stop=["", "x" * 257]),
            "stop text 1 has 257 bytes, and may have 256",
        ),
        (lambda m, t: m.generate(["a"], tokenizer=t, beam=3), "beam must be a Beam"),
        (lambda m, t: m.stream([1.5], tokenizer=t), "give one text, or its ids"),
        (lambda m, t: m.signatures(t, beam=Beam(10**7)), "num_beams must be .* and 256"),
        (lambda m, t: m.signatures(t, sampling=Sampling(-1.0)), "temperature must be"),
    ],
)
def test_what_cannot_be_meant_is_refused(model, tokenizer, ask, message):
    with pytest.raises(InputError, match=message):
        ask(model, tokenizer)


def test_a_long_prompt_slides_where_asked(model):
    ids = np.random.default_rng(0).integers(0, 283, 40).tolist()
    slid = model.generate([ids], max_new_tokens=5, slide=True).to_list()
    assert slid == model.generate([ids[-20:]], max_new_tokens=5).to_list()


def test_a_tokenizer_without_bytes_is_named(model):
    with pytest.raises(InputError, match="a ByteLevelBPE. Received: a object"):
        word_bytes(object())


@pytest.mark.slow
def test_further_signatures_of_a_bundle(model, tokenizer, tmp_path):
    from tfllm.export import AWKWARD_TEXTS, export_bundle
    from tfllm.serving import Session

    served = model.signatures(tokenizer, max_new_tokens=6)
    probes = {"serving_default": {"text": list(AWKWARD_TEXTS)}} | model.probes()
    modules = [model, tokenizer]
    version = export_bundle(served, tmp_path, "m", modules=modules, probes=probes)
    with Session(version) as session:
        ids = session.run("tokenize", {"text": TEXTS})["input_ids"]
        assert ids[2].tolist() == [-1] * ids.shape[1]
        assert ids[0][ids[0] >= 0].tolist() == tokenizer.fast.encode(TEXTS[0]).ids
        new = session.run("tokens", {"input_ids": ids})["output_ids"]
        wanted = model.generate(
            [ids_of(tokenizer, text) for text in TEXTS], max_new_tokens=6, eos_id=tokenizer.eos_id
        )
        assert new.tolist() == wanted.to_tensor(-1).numpy().tolist()
        scores = session.run("score", {"text": TEXTS})
        expected = model.score(TEXTS, tokenizer=tokenizer)
        np.testing.assert_allclose(scores["log_likelihood"], expected.texts, atol=1e-4)
        assert scores["tokens"].tolist() == expected.counts.tolist()
        rows = len(TEXTS)
        texts = model.generate(TEXTS, tokenizer=tokenizer, max_new_tokens=6)
        settings = {
            "text": TEXTS,
            "max_new_tokens": [6] * rows,
            "temperature": [0.0] * rows,
            "top_k": [0] * rows,
            "top_p": [1.0] * rows,
            "seed": [0] * rows,
        }
        stops = [[text[2:3], ""] for text in texts]
        cut = session.run("generate", settings | {"stop": stops})["text"]
        for i, text in enumerate(TEXTS):
            stop = [stop for stop in stops[i] if stop]
            alone = model.generate([text], tokenizer=tokenizer, max_new_tokens=6, stop=stop)
            assert cut[i].decode() == alone[0]


def test_a_bundle_may_search(model, tokenizer):
    prompts = ["a b", ""]
    served = model.signatures(tokenizer, max_new_tokens=5, beam=Beam(3, num_returned=2))
    found = [text.decode() for text in served["serving_default"](prompts)["text"].numpy()]
    assert found == model.generate(prompts, tokenizer=tokenizer, max_new_tokens=5, beam=Beam(3))
    ids = served["tokens"](served["tokenize"](["a b"])["input_ids"])["output_ids"].numpy()[0]
    assert tokenizer.detokenize(tf.ragged.constant([ids[ids >= 0]])).numpy()[0].decode() == found[0]
    with pytest.raises(InputError, match="give one of beam and sampling"):
        model.signatures(tokenizer, sampling=Sampling(), beam=Beam(2))


@pytest.mark.parametrize("count", ["x", 0, 1.5, None])
def test_a_configuration_that_is_none_is_refused(tmp_path, count):
    config = {"model_type": "gpt2", "n_embd": count}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="n_embd in the config.json of .* must be a whole number"):
        CausalLM.from_pretrained(tmp_path)
