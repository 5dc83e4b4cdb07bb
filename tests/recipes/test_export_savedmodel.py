"""Folders of every kind of model go through the recipe, and come out as bundles that answer."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tfllm import models, text
from tfllm.cli.command_line import parse
from tfllm.errors import InputError
from tfllm.generation import Beam, Sampling
from tfllm.serving import Session

RECIPES = Path(__file__).parents[2] / "recipes"
CORPUS = ["the cat sat on the mat and a dog saw the old house", "who saw the cat?"] * 3


@pytest.fixture(scope="module")
def exporting():
    spec = importlib.util.spec_from_file_location("export_recipe", RECIPES / "export_savedmodel.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["export_recipe"] = module  # where dataclasses look for a class's module
    spec.loader.exec_module(module)
    return module


def sizes(tokenizer):
    return models.small_bert_config(
        tokenizer, positions=64, num_layers=1, num_heads=2, hidden_dim=16, dropout=0.0
    )


def save(folder, model_class, **arguments):
    tokenizer = text.train_wordpiece(CORPUS, 60)
    model_class.from_config(sizes(tokenizer), **arguments).save_pretrained(folder, tokenizer)


def save_language_model(folder, positions=32):
    from transformers import GPT2Config

    tokenizer = text.train_byte_level_bpe(CORPUS, 280)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=positions, n_embd=16, n_layer=1, n_head=2
    )
    models.CausalLM.from_config(config).save_pretrained(folder, tokenizer)


TEXT = {"text": ["the cat sat", ""]}
QUESTION = {"question": ["who sat?"], "context": ["the cat sat on the mat"]}
CLASSES = ["bad", "fair", "good"]
TAGS = ["O", "B-PER", "I-PER"]
# How a folder is made → flags, a request, and what is answered.
KINDS = {
    "single_label": (models.TextClassifier, {"labels": CLASSES}, {}, TEXT, "label"),
    "pair": (
        models.TextClassifier,
        {"labels": CLASSES},
        {"text_pair": True},
        {"text": ["the cat"], "text_pair": ["a dog"]},
        "label",
    ),
    "multi_label": (
        models.TextClassifier,
        {"labels": CLASSES, "kind": "multi_label"},
        {"windows": True},
        TEXT,
        "decisions",
    ),
    "regression": (models.TextClassifier, {"labels": [], "kind": "regression"}, {}, TEXT, "score"),
    "tags": (models.TokenClassifier, {"labels": TAGS, "crf": False}, {}, TEXT, "entity"),
    "tags_crf": (models.TokenClassifier, {"labels": TAGS, "crf": True}, {}, TEXT, "entity"),
    "questions": (
        models.QuestionAnswerer,
        {},
        {"overlap": 8, "max_question_tokens": 8},
        QUESTION,
        "answer",
    ),
    "vectors": (models.TextEmbedder, {}, {}, TEXT, "vector"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_exports_through_the_gate(kind, exporting, tmp_path):
    model_class, arguments, flags, request, output = KINDS[kind]
    save(tmp_path / "model", model_class, **arguments)
    exporting.main(
        exporting.Config(
            str(tmp_path / "model"), export_dir=str(tmp_path), export_name=kind, **flags
        )
    )
    with Session(tmp_path / kind / "1") as session:
        answer = session.run("serving_default", request)[output]
    assert len(answer) == len(next(iter(request.values())))
    assert (tmp_path / kind / "1" / "assets" / "tokenizer" / "vocab.txt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_a_language_model_exports_through_the_gate(storage, exporting, tmp_path):
    save_language_model(tmp_path / "model")
    folder = str(tmp_path / "model")
    exporting.main(
        exporting.Config(folder, export_dir=str(tmp_path), storage=storage, temperature=0.7)
    )
    with Session(tmp_path / "model" / "1") as session:
        reply = session.run("serving_default", {"text": ["the cat"]})["text"]
    assert reply.shape == (1,)


def test_a_run_is_exported_with_its_settings_and_numbers(recipe, tmp_path):
    run = tmp_path / "my run"
    save(run / "model", models.TextClassifier, labels=CLASSES)
    record = {"config": {"sequence_length": 8, "text_pair": None}, "metrics": {"accuracy": 0.75}}
    (run / "run.json").write_text(json.dumps(record))
    done = recipe("export_savedmodel", "--model", run, "--export_dir", "out", "--notes", "Mine.")
    assert done.code == 0, done.err
    assert "The bundle out/my-run/1 has " in done.out and "docker run" in done.out
    bundle = tmp_path / "out" / "my-run"
    card = (bundle / "README.md").read_text()
    assert "Text classification.\n\nMine." in card and "| accuracy | 0.75 |" in card
    assert all(f"- {label}" in card for label in CLASSES)
    assert yaml.safe_load((bundle / "docker-compose.yml").read_text())["services"]
    with Session(bundle / "1") as session:
        ids = session.run("tokenize", {"text": ["the cat " * 20]})["input_ids"]
        scores = session.run("serving_default", {"text": ["the cat", "a dog"]})["scores"]
    assert ids.shape == (1, 8)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def generator_run(tmp_path_factory):
    """The folder of a run whose bundle searches for replies of 60 tokens."""
    run = tmp_path_factory.mktemp("run")
    save_language_model(run / "model", positions=96)
    models.GenerationDefaults(60, num_beams=3).save(run / "model")
    config = {"max_new_tokens": None, "num_beams": 3}
    (run / "run.json").write_text(json.dumps({"config": config, "metrics": {}}))
    return run


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, {"max_new_tokens": 60, "beam": Beam(3)}),
        pytest.param(
            {"max_new_tokens": 5},
            {"max_new_tokens": 5, "beam": Beam(3)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"temperature": 0.5, "top_k": 4},
            {"max_new_tokens": 60, "sampling": Sampling(temperature=0.5, top_k=4)},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_generators_run_is_exported_as_its_own_bundle_was(
    exporting, generator_run, flags, wanted
):
    config = exporting.Config(str(generator_run), **flags)
    served = exporting.causal_lm(config, exporting.source_of(config.model)).signatures
    folder = generator_run / "model"
    own = models.CausalLM.from_pretrained(folder).signatures(text.load(folder), **wanted)
    prompts = {"text": tf.constant(["the cat", "who saw"])}
    found, hoped = (
        functions["serving_default"](**prompts)["text"].numpy().tolist()
        for functions in (served, own)
    )
    assert found == hoped


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top_k", "-5"], "^--top_k must be at least 0. Received: -5"),
        (["--num_beams", "1000000"], "^--num_beams must be at most 256. Received: 1000000"),
        (["--text_pair"], "--text_pair is for text_classification, and this is generation"),
        (["--sequence_length", "5"], "--sequence_length is for text_cl.*, and this is generation"),
        (["--windows"], "--windows is for text_classification, and this is generation"),
        (["--overlap", "5"], "--overlap is for .*, and this is generation. Received: 5"),
        (["--max_question_tokens", "5"], "--max_question_tokens is for question_answering, and"),
        (["--task", "text_classification"], "--task can't be done by .*, a GPT-2: it is for gen"),
        (["--export_name", ""], "--export_name must not be empty"),
        (["--export_name", "n" * 300], "have at most 200 characters; received 'nnn"),
        (["--model", ""], "--model must not be empty"),
        (["--export_dir", "/proc/x"], "--export_dir /proc/x can't be made: /proc takes no files"),
        (["--top_p", "0.5"], "top_p 0.5 means nothing at temperature 0"),
        (["--top_k", "7", "--temperature", "0"], "top_k 7 means nothing at temperature 0"),
        (["--temperature", "1", "--num_beams", "2"], "num_beams 2 and temperature 1.0 exclude"),
        (["--max_new_tokens", "0"], "max_new_tokens must be at least 1. Received: 0"),
        (["--top_p", "1.5", "--temperature", "1"], "top_p must be above 0 and at most 1"),
    ],
)
def test_settings_of_generation_that_can_not_be_meant(exporting, generator_run, flags, message):
    config = parse(exporting.Config, None, "x", ["--model", str(generator_run), *flags])
    with pytest.raises(InputError, match=message):
        exporting.main(config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model/config.json", "[1]", "config.json is no model's configuration: it holds no JSON"),
        ("model/template.json", '{"kind": "zzz"}', "its kind is 'zzz', and there are 'pair' and"),
        ("model/template.json", '{"kind": "pair"}', "can't be read as a template: it has no 'pr"),
        ("run.json", '{"config": {}, "metrics": {"loss": "high"}}', "metric loss is 'high', not"),
        (
            "run.json",
            '{"config": {"overlap": "lots"}, "metrics": {}}',
            "overlap is 'lots', not a whole",
        ),
    ],
)
def test_files_of_a_run_that_are_none(exporting, tmp_path, name, content, message):
    (tmp_path / "model").mkdir()
    files = {
        "model/config.json": '{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}',
        "run.json": '{"config": {}, "metrics": {}}',
        name: content,
    }
    for path, text_of_file in files.items():
        (tmp_path / path).write_text(text_of_file)
    with pytest.raises(InputError, match=message):
        exporting.main(exporting.Config(str(tmp_path)))


def refused(recipe, *flags):
    done = recipe("export_savedmodel", *flags)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    return line


def test_what_is_no_model_is_refused_in_one_line(recipe, tmp_path):
    assert "there is no folder ./nowhere" in refused(recipe, "--model", "./nowhere")
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text('{"architectures": ["T5Encoder"]}')
    line = refused(recipe, "--model", "t5")
    assert "names the architectures T5Encoder, none of which is known. Give --task" in line
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "is a run that is not finished" in refused(recipe, "--model", "run")
    assert "--keep_versions must be at least 1" in refused(
        recipe, "--model", "t5", "--keep_versions", "0"
    )
    line = refused(recipe, "--model", "t5", "--task", "embedding", "--num_beams", "2")
    assert "--num_beams is for generation, and this is embedding" in line
    line = refused(recipe, "--model", "t5", "--task", "embedding", "--export_name", "a/b")
    assert "a bundle's name must be" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "t5"]


def test_tasks_are_read_from_the_architecture(exporting, tmp_path):
    def task(*architectures):
        config = {"architectures": architectures}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return exporting.task_of(tmp_path)

    assert task("BertForSequenceClassification") == "text_classification"
    assert task("XLNetForQuestionAnsweringSimple") == "question_answering"
    assert task("RobertaForTokenClassification") == "token_classification"
    assert task("GPT2LMHeadModel") == "generation"
    assert task("BertModel") == task("BertForMaskedLM") == "embedding"
    assert set(exporting.ARCHITECTURES.values()) == set(exporting.TASKS)


@pytest.mark.parametrize(
    ("model", "name"),
    [("a/b c é", "b-c"), ("org/model.v1", "model.v1"), ("runs/7", "model-7"), ("x/-", "model-")],
)
def test_a_bundle_is_called_after_its_model(exporting, model, name):
    assert exporting.default_name(model) == name
