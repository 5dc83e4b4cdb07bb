"""The planner as its user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

RECIPES = Path(__file__).parent.parent.parent / "recipes"
TEXTS = [f"the cat number {i} sat on the mat and saw {i % 7} dogs" for i in range(300)]


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = "".join(f"{i % 2}\t{text}\n" for i, text in enumerate(TEXTS))
    (tmp_path / "table.tsv").write_text("label\tsentence\n" + rows)
    return tmp_path


@pytest.fixture
def zoo(tmp_path):
    """A folder of models: two that can be planned, and one that can't."""
    fast = tokenizers.Tokenizer(models.WordLevel(unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["?"]))
    fast.enable_truncation(4)  # as sentence-transformers' files have it
    small = {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 2}
    configs = {"small": small, "large": small | {"hidden_size": 256}, "odd": {"model_type": "t5"}}
    for name, config in configs.items():
        folder = tmp_path / "zoo" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        fast.save(str(folder / "tokenizer.json"))
    return tmp_path / "zoo"


def plan(recipe, *flags):
    """The JSON object of a plan with a peak that is given."""
    done = recipe("plan_run", "--json", "--peak_gflops", 50, *flags)
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    return json.loads(done.out)


def test_several_models_are_ranked(recipe, zoo, texts):
    flags = ("--train", "table.tsv", "--text", "sentence", "--memory_gib", 4)
    found = plan(recipe, "--pretrained", "zoo", *flags)
    assert [Path(m["name"]).name for m in found["models"]] == ["large", "small"]
    assert list(found["left_out"]) == ["zoo/odd"]
    assert "'t5'" in found["left_out"]["zoo/odd"]
    assert found["task"] == "text_classifier"
    large, small = found["models"]
    assert large["within_budget"] and small["within_budget"]
    assert large["parameters"] > small["parameters"]
    assert large["epoch_seconds"] > small["epoch_seconds"]
    for model in found["models"]:
        # 5% are held out by a hash; a row has 12 words, and the file's truncation is not heeded.
        data = model["data"]
        assert 250 < data["rows"] < 300 and data["tokens"] == 12 * data["rows"]
        assert data["row_tokens"] == 12 and data["standard_error"] == 0
        assert model["memory_bytes"]["total"] == sum(
            size for part, size in model["memory_bytes"].items() if part not in ("total", "moment")
        )
        assert model["steps_per_epoch"] == -(-data["rows"] // 32)
    done = recipe("plan_run", "--peak_gflops", 50, "--pretrained", "zoo", *flags)
    head, *rows = [line for line in done.out.splitlines() if "  " in line]
    assert head.split()[:3] == ["model", "parameters", "fits"]
    assert [row.split()[0] for row in rows] == ["zoo/large", "zoo/small"]
    assert sorted(path.name for path in zoo.parent.iterdir()) == ["table.tsv", "texts.txt", "zoo"]


def test_no_tensorflow_where_the_peak_is_given(zoo, texts):
    """A module that takes TensorFlow's place fails to be imported."""
    (texts / "poison").mkdir()
    (texts / "poison" / "tensorflow.py").write_text("raise SystemExit('imported')")
    command = [sys.executable, str(RECIPES / "plan_run.py"), "--pretrained", "zoo/small"]
    command += ["--train", "texts.txt", "--peak_gflops", "50"]
    done = subprocess.run(
        command,
        cwd=texts,
        env=os.environ | {"PYTHONPATH": "poison"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "in 300 texts" in done.stdout
    done = subprocess.run(
        command[:-2],
        cwd=texts,
        env=os.environ | {"PYTHONPATH": "poison"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "imported" in done.stderr  # to measure it


def test_a_model_from_scratch_is_planned_with_a_measured_peak(recipe, texts):
    done = recipe(
        "plan_run",
        *("--train", "texts.txt", "--documents", "line", "--vocabulary_size", 300),
        *("--num_layers", 2, "--hidden_dim", 32, "--sequence_length", 32, "--sample", 50),
    )
    assert done.code == 0, done.err
    assert " ± " in done.out  # only a sample was tokenized
    for part in ("parameters", "activations", "rows that fit", "tokens a second"):
        assert f"\n{part}" in done.out or f"  {part}" in done.out
    assert "Hoffmann et al., 2022" in done.out


def test_a_batch_that_does_not_fit_is_cut(recipe, zoo, texts):
    flags = ("--pretrained", "zoo/large", "--train", "texts.txt", "--global_batch_size", 256)
    whole = plan(recipe, *flags, "--memory_gib", 64)["models"][0]
    assert whole["fits"] and whole["suggested_accumulate_steps"] == 1
    cut = plan(recipe, *flags, "--memory_gib", 2)["models"][0]
    assert not cut["fits"] and cut["within_budget"]
    parts, rows = cut["suggested_accumulate_steps"], cut["largest_batch"]
    assert 256 % parts == 0 and 256 // parts <= rows
    again = plan(recipe, *flags, "--memory_gib", 2, "--accumulate_steps", parts)["models"][0]
    assert again["fits"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--pretrained", "nowhere/at/all"], "nowhere/at/all is not a folder"),
        (["--pretrained", "zoo/odd"], "'t5'"),
        (["--pretrained", "zoo", "--train", "none.txt"], "none.txt"),
        (["--pretrained", "zoo", "--memory_gib", 0.5, "--train", "texts.txt"], "nothing fits in"),
        (["--pretrained", "zoo", "--hours", 1e-9, "--train", "texts.txt"], "--hours 1e-09"),
        (["--num_heads", 3], "--hidden_dim must be a multiple of --num_heads 3. Received: 128"),
        (["--num_layers", 0], "--num_layers must be at least 1"),
        (["--global_batch_size", 0], "--global_batch_size must be at least 1. Received: 0"),
        (["--global_batch_size", 9, "--accumulate_steps", 2], "--global_batch_size"),
        (["--pretrained", "zoo/small", "--sequence_length", 513], "above the 512 positions"),
        (["--pretrained", "zoo/small", "--task", "causal_lm"], "needs 'gpt2'"),
        (["--memory_gib", "nan"], "--memory_gib must be above 0"),
        (
            ["--memory_gib", "1e308"],
            "must be above 0 and below 1e12. Received: 1e+308",
        ),
        (["--pretrained", "deep"], "deep/config.json can't be read as JSON"),
        (["--pretrained", "s" * 300], "is neither a local folder nor a model"),
        (["--pretrained", "zoo", "--num_layers", 2], "--num_layers is for a model from scratch"),
        (["--text", ""], "--text must not be empty. Received: ''"),
        (["--text", "a", "--documents", "line"], "--documents is for plain text"),
        (["--lora_rank", 4], "--lora_rank is for --pretrained"),
    ],
)
def test_what_can_not_be_planned_is_one_line(recipe, zoo, texts, flags, said):
    (texts / "deep").mkdir()
    (texts / "deep" / "config.json").write_text("[" * 100_000)
    before = sorted(texts.rglob("*"))
    done = recipe("plan_run", "--peak_gflops", 50, *flags)
    assert done.code == 2
    assert done.err.count("\n") == 1 and said in done.err
    assert done.out == ""
    assert sorted(texts.rglob("*")) == before
