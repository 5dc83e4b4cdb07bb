"""Bundles of language models over vocabularies whose words are no bytes, with and without start."""

import functools

import numpy as np
import pytest
import tf_keras as keras
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config

from tfllm import text
from tfllm.data.templates import PairTemplate, Template, with_template, with_template_probes
from tfllm.export import AWKWARD_TEXTS, export_bundle
from tfllm.export._memory import answered_cases
from tfllm.models import CausalLM
from tfllm.serving import Session
from tfllm.text.sentencepiece import SentencePiece
from tfllm.text.wordpiece import WordPiece

START = {"bos_token": "[CLS]", "eos_token": "[SEP]"}


@functools.cache
def tokenizer_of(kind):
    family, _, begun = kind.partition(" ")
    if family == "wordpiece":
        plain = text.train_wordpiece(["the cat sat on the mat"] * 3, 60)
        return WordPiece(plain.fast, special_roles=plain.special_roles | (START if begun else {}))
    pieces = [("<unk>", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("▁", -2.0), ("▁the", -1.5)]
    pieces += [(letter, -3.0) for letter in "acehmnost"]
    fast = Tokenizer(models.Unigram(pieces, 0, False))
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.add_special_tokens(["[CLS]", "[SEP]"])
    return SentencePiece(fast, special_roles=START if begun else {"eos_token": "[SEP]"})


KINDS = ["wordpiece", "wordpiece begun", "sentencepiece", "sentencepiece begun"]
PAIR = PairTemplate(Template("{Head}{body}"), Template("{answer}"))


@functools.cache
def served(kind, templated=False):
    """A model, its functions, and what they are asked."""
    tokenizer = tokenizer_of(kind)
    keras.utils.set_random_seed(2)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=16, n_embd=8, n_layer=1, n_head=2
    )
    model = CausalLM.from_config(config)
    signatures, probes = model.signatures(tokenizer, max_new_tokens=4), model.probes(tokenizer)
    if templated:
        signatures = with_template(signatures, PAIR)
        probes = with_template_probes(probes, PAIR, AWKWARD_TEXTS, tokenizer)
    return model, signatures, probes


@pytest.mark.parametrize(
    "kind", ["wordpiece", pytest.param("sentencepiece begun", marks=pytest.mark.slow)]
)
def test_the_model_in_memory_answers_what_the_gate_asks(kind):
    _, signatures, probes = served(kind)
    asked = answered_cases(signatures, probes)
    assert {case.signature for case in asked} == set(signatures)
    assert "stop" not in probes["generate"]
    texts = {text for case in asked for text in case.inputs.get("text", np.array([])).ravel()}
    assert texts >= {b"", b"The quick brown fox"}  # tokens can be counted and scored of nothing
    default = [case for case in asked if case.signature == "serving_default"]
    found = {text for case in default for text in case.inputs["text"]}
    assert (b"" in found) == ("begun" in kind)


@pytest.mark.slow
@pytest.mark.parametrize("templated", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_bundles_pass_the_gate(kind, templated, tmp_path):
    model, signatures, probes = served(kind, templated)
    modules = [model, tokenizer_of(kind)]
    version = export_bundle(signatures, tmp_path, "m", modules=modules, probes=probes)
    request = {"Head": ["the c"], "body": ["at"]} if templated else {"text": ["the cat"]}
    (wanted,) = model.generate(["the cat"], tokenizer=modules[1], max_new_tokens=4)
    with Session(version) as session:
        found = session.run("serving_default", request)["text"]
    assert [text.decode().strip() for text in found] == [wanted.strip()]
