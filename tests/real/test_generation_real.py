"""Greedy decoding beside transformers, and through a real tokenizer."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config, TFGPT2LMHeadModel

from tfllm.models import CausalLM

NEW = 12
CLOSE = 1e-4  # of the two best logits: which is larger is then rounding


def pair() -> tuple[CausalLM, TFGPT2LMHeadModel]:
    """Our model and transformers', with the same random weights, all words about as likely."""
    keras.utils.set_random_seed(7)
    config = GPT2Config(
        vocab_size=101, n_positions=40, n_embd=32, n_layer=2, n_head=4, eos_token_id=None
    )
    model, theirs = CausalLM.from_config(config), TFGPT2LMHeadModel(config)
    theirs.build_in_name_scope()
    rng = np.random.default_rng(7)
    weights = zip(model.backbone.transformer.weights, theirs.transformer.weights, strict=True)
    for ours, reference in weights:
        noise = 0.3 * rng.standard_normal(ours.shape).astype(np.float32)
        ours.assign(ours + noise)
        reference.assign(ours)
    return model, theirs


def same_until_it_is_close(new: np.ndarray, wanted: np.ndarray, logits: np.ndarray) -> int:
    """Compare one row's ids up to the first near-tie; how many were compared."""
    for step, row in enumerate(logits):
        best = np.sort(row)[-2:]
        if best[1] - best[0] < CLOSE:
            return step
        assert new[step] == wanted[step], f"step {step}"
    return len(logits)


@pytest.mark.slow
def test_greedy_ids_equal_transformers_on_200_prompts():
    model, theirs = pair()
    rng = np.random.default_rng(0)
    compared = 0
    for length in range(1, 26):
        prompts = rng.integers(0, 101, (8, length)).astype(np.int32)
        found = theirs.generate(
            prompts,
            attention_mask=np.ones_like(prompts),
            max_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        logits = np.stack([step.numpy() for step in found.scores], axis=1)
        new = model.generate(prompts, max_new_tokens=NEW).to_tensor().numpy()
        wanted = found.sequences.numpy()[:, length:]
        rows = zip(new, wanted, logits, strict=True)
        compared += sum(same_until_it_is_close(*row) for row in rows)
    assert compared > 0.95 * 200 * NEW
    assert model._functions().traces == 1


def test_texts_of_the_real_vocabulary_stream_as_they_are_generated(data):
    from tfllm.generation import Rules, Sampling
    from tfllm.text import load

    tokenizer = load(data / "vocab" / "gpt2")
    keras.utils.set_random_seed(1)
    config = GPT2Config(vocab_size=50_257, n_positions=64, n_embd=8, n_layer=1, n_head=2)
    model = CausalLM.from_config(config)
    lines = (data / "lm" / "tinyshakespeare.txt").read_text().splitlines()
    prompts = [line[:40] for line in lines[:40:8]] + ["", "日本語 🙂"]
    # Nearly any word.
    settings = {
        "tokenizer": tokenizer,
        "max_new_tokens": 24,
        "sampling": Sampling(5.0, seed=3),
        "stop": [" the", "e\n"],
    }
    texts = model.generate(prompts, **settings)
    for prompt, text in zip(prompts, texts, strict=True):
        assert "".join(model.stream(prompt, **settings)) == text
    # Half characters, which random words hardly give: the bytes of an emoji one by one, and a cut.
    ids = tokenizer.fast.encode("a🙂日").ids[:-1]
    rules = Rules(forced_prefix=ids)
    some = {"tokenizer": tokenizer, "max_new_tokens": len(ids), "rules": rules}
    (text,) = model.generate(["to"], **some)
    assert list(model.stream("to", **some)) == ["a", "🙂", "\ufffd"] and text == "a🙂\ufffd"


def test_the_adder_finds_its_sums_likely(data):
    model = CausalLM.from_pretrained(data / "weights" / "gpt2-nano-adder")
    # 37 + 48 = 085, the last digit first; and a wrong sum.
    right, wrong = model.score(tf.constant([[3, 7, 4, 8, 5, 8], [3, 7, 4, 8, 6, 8]])).tokens
    assert right[3:].min() > np.log(0.9) and wrong[3] < np.log(0.1)
