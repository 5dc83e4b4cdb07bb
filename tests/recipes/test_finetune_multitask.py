"""Several tasks on one backbone, as a user trains them, on small files."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfllm.data.tasks import TextSpec
from tfllm.errors import InputError
from tfllm.models import QuestionAnswerer, TextClassifier, TokenClassifier
from tfllm.serving import Session

RECIPE = Path(__file__).parents[2] / "recipes" / "finetune_multitask.py"
TINY = [
    *("--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16, "--vocabulary_size", 300),
    *("--global_batch_size", 8, "--sequence_length", 48),
]
TASKS = """\
[[task]]
name = "names"
kind = "entities"
train = "names.txt"
crf = true
overlap = 8

[[task]]
name = "topics"
kind = "multi_label"
train = "topics.jsonl"
weight = 2

[[task]]
name = "alike"
kind = "regression"
train = ["alike.tsv"]
validation = "alike.tsv"
test = "alike.tsv"
text = "one"
text_pair = "two"
label = "score"

[[task]]
name = "answers"
kind = "answers"
train = "answers.jsonl"
max_question_tokens = 16
overlap = 8
"""


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    people, places = ["Ann", "Bob", "Cy"], ["Oslo", "Rome", "Bonn"]
    pairs = [(rng.choice(people), rng.choice(places)) for _ in range(40)]
    sentences = [f"{who} B-PER\nsaw O\n{where} B-LOC\n" for who, where in pairs]
    (tmp_path / "names.txt").write_text("\n".join(sentences))
    topics = [
        {"text": f"{who} in {where} {i}", "label": [who, where][: i % 3]}
        for i, (who, where) in enumerate(pairs)
    ]
    alike = [f"{who} sat\t{where} {i}\t{i % 5}" for i, (who, where) in enumerate(pairs)]
    (tmp_path / "alike.tsv").write_text("\n".join(["one\ttwo\tscore", *alike]) + "\n")
    answers = []
    for i, (who, _) in enumerate(pairs):
        context = f"{who} sat on chair {i} ."
        found = {"text": [who], "answer_start": [0]} if i % 4 else {"text": [], "answer_start": []}
        answers.append({"question": f"Who sat on {i} ?", "context": context, "answers": found})
    for name, rows in (("topics", topics), ("answers", answers)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks.toml").write_text(TASKS)
    return tmp_path


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def module():
    """The recipe as Python."""
    spec = importlib.util.spec_from_file_location("finetune_multitask", RECIPE)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["finetune_multitask"] = loaded  # dataclasses look there
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules["finetune_multitask"]


def test_several_tasks_in_one_bundle(recipe, files):
    tables = TASKS.split("\n\n")
    (files / "tasks.toml").write_text("\n\n".join(tables[1:3]))
    flags = ["--mixing", "weights", "--max_steps", 4, "--best_metric", "alike/loss"]
    done = recipe("finetune_multitask", "--tasks", "tasks.toml", *TINY, *flags)
    metrics = done.record["metrics"]
    assert {"mean", "loss", "topics/micro_f1", "test_alike/spearman"} <= set(metrics)
    assert metrics["test_alike/loss"] == pytest.approx(metrics["alike/loss"])
    assert "topics: multi_label (Ann, Bob, " in done.out
    run_dir, bundle = files / "runs" / "finetune_multitask", files / done.record["export"]
    assert bundle.parent.name == "topics-alike"
    assert [path.name for path in (run_dir / "test_predictions").iterdir()] == ["alike.jsonl"]
    assert_classifiers_agree(run_dir, bundle)
    assert "answered by signature alike of" in done.out


def assert_classifiers_agree(run_dir, bundle):
    """The bundle, the saved folders and the files of predictions say the same."""
    topics, alike = (
        read_lines(run_dir / "validation_predictions" / f"{name}.jsonl")
        for name in ("topics", "alike")
    )
    model = TextClassifier.from_pretrained(run_dir / "model" / "topics")
    assert TextClassifier.from_pretrained(run_dir / "model" / "alike").kind == "regression"
    with Session(bundle) as session:
        request = {key: [line[key] for line in alike] for key in ("text", "text_pair")}
        scores = session.run("alike", request)["score"]
        decisions = session.run("topics", {"text": [line["text"] for line in topics]})["decisions"]
    np.testing.assert_allclose(scores, [line["predicted"] for line in alike], atol=1e-4)
    said = [[c for c, d in zip(model.labels, row, strict=True) if d] for row in decisions]
    assert said == [line["predicted"] for line in topics]


@pytest.mark.slow
def test_tasks_of_all_kinds_in_one_bundle(recipe, files):
    flags = ["--max_steps", 8, "--validation_fraction", 0.2, "--mixing", "temperature"]
    done = recipe("finetune_multitask", "--tasks", "tasks.toml", *TINY, *flags)
    of_tasks = {"names/f1", "topics/micro_f1", "alike/spearman", "answers/f1"}
    assert of_tasks | {"mean", "loss"} <= set(done.record["metrics"])
    run_dir, bundle = files / "runs" / "finetune_multitask", files / done.record["export"]
    assert_classifiers_agree(run_dir, bundle)
    assert TokenClassifier.from_pretrained(run_dir / "model" / "names").crf is not None
    answerer = QuestionAnswerer.from_pretrained(run_dir / "model" / "answers")
    assert answerer.no_answer_threshold is not None
    lines = read_lines(run_dir / "validation_predictions" / "answers.jsonl")
    with Session(bundle) as session:
        assert {"serving_default", "names", "topics", "alike", "answers"} == {*session.signatures}
        request = {key: [line[key] for line in lines] for key in ("question", "context")}
        answers = session.run("answers", request)["answer"]
        first, same = (
            session.run(name, {"text": ["Ann saw Rome"]}) for name in ("serving_default", "names")
        )
    assert [answer.decode() for answer in answers] == [line["predicted"] for line in lines]
    np.testing.assert_array_equal(first["entity"], same["entity"])
    assert done.out.count("answered by signature") == 4


def test_steps_are_dealt_by_examples_temperature_or_weights(module):
    class Rows:
        def __init__(self, steps):
            self.steps_per_epoch = steps

    class Task:
        def __init__(self, weight):
            self.spec = TextSpec("t", weight=weight)

    def counts(large, small, *weights, **flags):
        todo = dict(zip("ab", map(Task, weights or (1, 1)), strict=True))
        config = module.Config(tasks="x.toml", **flags)
        config.check()
        plan = module.mixture(config, todo, {"a": Rows(large), "b": Rows(small)})
        return plan.counts.tolist()

    # Each task is passed over once an epoch, so that its own steps are as many as alone.
    assert counts(800, 100) == [800, 100]
    assert counts(800, 100, mixing="temperature", temperature=3.0) == [600, 300]
    assert counts(800, 100, 1, 3, mixing="weights") == [225, 675]
    with pytest.raises(InputError, match="--mixing weights: of the weights .* is too small"):
        counts(20, 1, 1e6, 1, mixing="weights")


def test_flags_that_make_no_sense(module):
    bad = [
        ({"train": ("a.tsv",)}, "--train is for one task: name files in --tasks"),
        ({"new_head": True, "pretrained": "x"}, "--new_head is nothing to ask for"),
        ({"temperature": 3.0}, "--temperature needs --mixing temperature"),
        ({"temperature": 0.5, "mixing": "temperature"}, "--temperature must be at least 1"),
        ({"mixing": "weights"}, "--mixing needs --tasks"),
        ({"lora_by_task": True}, "--lora_by_task needs --lora_rank"),
        ({"xla": True}, "--xla is for packed rows"),
    ]
    for flags, message in bad:
        with pytest.raises(InputError) as error:
            module.Config(**flags).check()
        assert str(error.value).startswith(message)


def test_what_a_list_of_tasks_gets_wrong_is_one_line(recipe, files):
    (files / "tasks.toml").write_text(TASKS.replace("crf =", "cfr ="))
    before = {*files.rglob("*")}
    done = recipe("finetune_multitask", "--tasks", "tasks.toml")
    assert done.code == 2 and len(done.err.splitlines()) == 1 and {*files.rglob("*")} == before
    assert "error: tasks.toml:5 has the unknown key 'cfr'. Did you mean 'crf'?" in done.err
    frozen = TASKS.replace("kind =", "freeze_backbone = true\nkind =")
    (files / "tasks.toml").write_text(frozen)
    done = recipe("finetune_multitask", "--tasks", "tasks.toml")
    assert done.code == 2 and "--tasks lists none but tasks with freeze_backbone" in done.err
    (files / "tasks.toml").write_text(TASKS)
    done = recipe("finetune_multitask", "--tasks", "tasks.toml", "--best_metric", "names/accuracy")
    assert done.code == 2 and "--best_metric must be one of mean, loss, names/f1, " in done.err


@pytest.mark.slow
def test_adapters_and_a_frozen_backbone(recipe, files):
    start = ["finetune_multitask", "--tasks", "tasks.toml", *TINY[-4:], "--max_steps", 4]
    first = recipe(*start, *TINY[:8], "--export_name", "first")
    assert first.code == 0, first.err
    pretrained = files / "runs" / "finetune_multitask" / "model" / "topics"
    flags = ["--pretrained", pretrained, "--run_dir", "lora", "--lora_rank", 2]
    done = recipe(*start, *flags, "--lora_dropout", 0.1)
    assert done.code == 0 and "LoRA: " in done.out, done.err
    assert {path.name for path in (files / "lora").iterdir()} >= {"adapters", "model"}
    saved = json.loads((files / "lora" / "adapters" / "adapter_config.json").read_text())
    assert "names/crf" in saved["modules_to_save"]
    # One task trains its head alone, the others have adapters of their own.
    frozen = TASKS.replace("weight = 2\n", "freeze_backbone = true\n")
    (files / "tasks.toml").write_text(frozen)
    flags = ["--pretrained", pretrained, "--lora_rank", 2, "--lora_by_task", "--run_dir", "own"]
    done = recipe(*start, *flags)
    assert done.code == 0 and "LoRA: " in done.out, done.err
    adapted = {path.name for path in (files / "own" / "adapters").iterdir()}
    assert adapted == {"names", "alike", "answers"}
    assert_classifiers_agree(files / "own", files / done.record["export"])
    (files / "tasks.toml").write_text(TASKS)
    flags = ["--pretrained", pretrained, "--freeze_layers", 1, "--dry_run"]
    done = recipe(*start, *flags)
    assert done.code == 0 and "parameters train" in done.out and "exports" in done.out, done.err


@pytest.mark.slow
def test_killed_and_continued_ends_as_if_nothing_had_happened(files):
    whole, killed = files / "whole", files / "killed"
    flags = ["--tasks", "../tasks.toml", *TINY, "--epochs", 3, "--checkpoint_steps", 3]
    flags += ["--average_momentum", 0.9, "--dropout", 0.2, "--run_dir", "r"]
    command = [sys.executable, str(RECIPE), *map(str, flags)]
    for folder in (whole, killed):
        folder.mkdir()
    subprocess.run(command, cwd=whole, check=True, capture_output=True)
    for number, wanted in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
        with subprocess.Popen(
            command, cwd=killed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            before = newest_step(killed)
            while process.poll() is None and newest_step(killed) < before + 6:
                time.sleep(0.002)
            process.send_signal(wanted)
            process.communicate()
        assert process.returncode == (-signal.SIGKILL if number == 1 else 143)
        assert not (killed / "savedmodels").exists()
    again = subprocess.run(command, cwd=killed, check=True, capture_output=True, text=True)
    assert "Going on from step " in again.stdout
    wanted, found = left_by(whole), left_by(killed)
    assert {"r/model/names/model.safetensors", "r/validation_predictions/names.jsonl"} < set(wanted)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def newest_step(folder: Path) -> int:
    return max((int(path.name[-9:]) for path in folder.glob("r/checkpoints/step-*")), default=0)


def left_by(folder: Path) -> dict[str, bytes]:
    """What a run leaves, times and event files excepted."""
    run = folder / "r"
    paths = [
        *run.glob("checkpoints/*/*"),
        *run.glob("model/*/*"),
        *run.glob("validation_predictions/*"),
        *folder.glob("savedmodels/*/*/variables/*"),
    ]
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    del metrics["peak_memory_mib"]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}
    return files | {"metrics": json.dumps(metrics, sort_keys=True).encode()}
