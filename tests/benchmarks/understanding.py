r"""Fine-tuning beside PyTorch's on the same data.

    P=/folder/of/all-MiniLM-L6-v2                   # config, tokenizer, model.safetensors
    python tests/benchmarks/understanding.py --torch_python /venv/bin/python sst2 \
        --pretrained $P --data DATA/classification/sst2
    python tests/benchmarks/understanding.py --torch_python /venv/bin/python squad \
        --pretrained $P --data DATA/qa/squad --questions 4000 --epochs 2

`sst2` is Hugging Face's `Trainer` with dynamic padding and `group_by_length`, and this project on
the same sentences, in turns. `squad` is the recipe for question answering, and a plain loop of
PyTorch over the same windows in the same batches, with the same first weights and schedule; both
without dropout, whose random numbers differ. The environment of PyTorch is another one than this
project's (`pip install torch transformers accelerate`), since transformers behaves otherwise where
torch is.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_TOKENS, OVERLAP, MAX_ANSWER_TOKENS = 384, 128, 30
WARMUP_STEPS, EPSILON = 100, 1e-8  # the recipe's, by default


def train_sst2(arguments: argparse.Namespace) -> dict[str, float]:
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(arguments.seed)
    tokenizer = AutoTokenizer.from_pretrained(arguments.pretrained)

    def rows(name: str, limit: int | None) -> list[dict[str, Any]]:
        with (arguments.data / name).open(encoding="utf-8", newline="") as file:
            found = [*csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][:limit]
        encoded = tokenizer([row["sentence"] for row in found], truncation=True, max_length=128)
        keys = [*encoded]
        return [
            {key: encoded[key][i] for key in keys} | {"labels": int(row["label"])}
            for i, row in enumerate(found)
        ]

    model = AutoModelForSequenceClassification.from_pretrained(arguments.pretrained, num_labels=2)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            per_device_train_batch_size=arguments.batch,
            per_device_eval_batch_size=64,
            learning_rate=arguments.learning_rate,
            num_train_epochs=arguments.epochs,
            group_by_length=True,
            use_cpu=True,
            save_strategy="no",
            logging_steps=50,
            report_to=[],
            disable_tqdm=True,
            seed=arguments.seed,
        )
        train, dev = rows("train.tsv", arguments.sentences), rows("dev.tsv", None)
        trainer = Trainer(
            model,
            settings,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=train,
            eval_dataset=dev,
            processing_class=tokenizer,
            compute_metrics=lambda p: {"accuracy": (p[0].argmax(-1) == p[1]).mean().item()},
        )
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
        accuracy = trainer.evaluate()["eval_accuracy"]
    return {
        "seconds": seconds,
        "sentences_per_second": len(train) * arguments.epochs / seconds,
        "dev_accuracy": accuracy,
        "threads": torch.get_num_threads(),
    }


def train_sst2_here(arguments: argparse.Namespace) -> dict[str, float]:
    """The same with this project: same rows, batch, rate, schedule, clipping and no decay."""
    from tfllm.cli.command_line import prepare_environment

    prepare_environment()
    os.environ["TFLLM_CACHE_DIR"] = tempfile.mkdtemp()
    import numpy as np

    from tfllm import data, metrics, models, optimization, text, training
    from tfllm.data import readers

    training.set_seed(arguments.seed)
    tokenizer = text.load(arguments.pretrained)
    labels = ("0", "1")
    model = models.TextClassifier.from_pretrained(
        arguments.pretrained, labels=labels, seed=arguments.seed
    )
    encoder = data.TextEncoder(
        data.FastTokenizer.of(tokenizer), 128, "sentence", label="label", labels=labels
    )

    def rows(name: str, limit: int | None, batch: int, seed: int | None) -> data.RowBatches:
        fields = {"sentence": "sentence", "label": readers.Field("label", "label")}
        examples = [*readers.Tsv(arguments.data / name, fields)][:limit]
        store = data.build_array_store(examples, encoder)
        plan = data.BucketPlan(np.diff(store.offsets("input_ids")), batch, seed)
        return data.RowBatches(store, plan, targets="label", fill_rows=seed is not None)

    train = rows("train.tsv", arguments.sentences, arguments.batch, arguments.seed)
    dev = rows("dev.tsv", None, 64, None)
    steps = arguments.epochs * train.steps_per_epoch
    optimizer = optimization.adamw(
        optimization.learning_rate_schedule(
            "linear", arguments.learning_rate, total_steps=steps, warmup_steps=0
        ),
        model.trainable_variables,
        weight_decay=0.0,
        beta_2=0.999,
    )
    model.compile(optimizer)
    begun = time.perf_counter()
    model.fit(train.dataset(0, steps), steps_per_epoch=steps, verbose=0)
    seconds = time.perf_counter() - begun
    found = training.predict_rows(model, dev, progress=False).outputs
    measured = metrics.classification(found["targets"], found["scores"], labels)
    return {
        "seconds": seconds,
        "sentences_per_second": arguments.sentences * arguments.epochs / seconds,
        "dev_accuracy": measured["accuracy"],
    }


def squad_questions(path: Path) -> Iterator[dict[str, Any]]:
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield {**question, "context": paragraph["context"]}


def squad_windows(tokenizer: Any, questions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Windows by `question:window`, with the span of the first answer, as BERT's code has them."""
    encoded = tokenizer(
        [question["question"].lstrip() for question in questions],
        [question["context"] for question in questions],
        truncation="only_second",
        max_length=MAX_TOKENS,
        stride=OVERLAP,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows: dict[str, dict[str, Any]] = {}
    before, number = -1, 0
    for row, at in enumerate(encoded["overflow_to_sample_mapping"]):
        number = number + 1 if at == before else 0
        before, question = at, questions[at]
        offsets, sides = encoded["offset_mapping"][row], encoded.sequence_ids(row)
        answer = question["answers"][0]
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        inside = [i for i, side in enumerate(sides) if side == 1]
        first = [i for i in inside if offsets[i][0] <= start < offsets[i][1]]
        last = [i for i in inside if offsets[i][0] < end <= offsets[i][1]]
        windows[f"{question['id']}:{number}"] = {
            "input_ids": encoded["input_ids"][row],
            "token_type_ids": encoded["token_type_ids"][row],
            "span": (first[0], last[0]) if first and last else (0, 0),
            "offsets": offsets,
            "inside": inside,
            "question": at,
        }
    return windows


def padded(torch: Any, windows: list[dict[str, Any]]) -> dict[str, Any]:
    width = max(len(window["input_ids"]) for window in windows)

    def column(rows: list[list[int]]) -> Any:
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    return {
        "input_ids": column([window["input_ids"] for window in windows]),
        "token_type_ids": column([window["token_type_ids"] for window in windows]),
        "attention_mask": column([[1] * len(window["input_ids"]) for window in windows]),
    }


def train_squad(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import (
        AutoModelForQuestionAnswering,
        AutoTokenizer,
        set_seed,
    )

    set_seed(arguments.seed)
    folder = arguments.work
    tokenizer = AutoTokenizer.from_pretrained(folder / "first")
    model = AutoModelForQuestionAnswering.from_pretrained(folder / "first")
    windows = squad_windows(tokenizer, [*squad_questions(folder / "train.json")])
    steps = [line.split() for line in (folder / "order.txt").read_text().splitlines()]

    plain = ("bias", "LayerNorm.weight")
    groups = [
        {"params": [p for n, p in model.named_parameters() if n.endswith(plain) == last]}
        | {"weight_decay": 0.0 if last else 0.01}
        for last in (False, True)
    ]
    optimizer = torch.optim.AdamW(groups, lr=arguments.learning_rate, eps=EPSILON)
    warmup = min(WARMUP_STEPS, len(steps) // 10)

    def share(step: int) -> float:
        """A linear rise, then a linear fall to a tenth, as the recipe's."""
        if step < warmup:
            return step / warmup
        return 1.0 - 0.9 * (step - warmup) / (len(steps) - warmup)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    model.eval()  # without dropout
    begun = time.perf_counter()
    losses = []
    for step in steps:
        rows = [windows[name] for name in step]
        spans = torch.tensor([row["span"] for row in rows])
        batch = padded(torch, rows)
        loss = model(**batch, start_positions=spans[:, 0], end_positions=spans[:, 1]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    seconds = time.perf_counter() - begun
    dev = [*squad_questions(folder / "dev.json")]
    return {
        "seconds": seconds,
        "steps": len(steps),
        "windows": len(windows),
        "first_loss": losses[0],
        "last_losses": sum(losses[-20:]) / len(losses[-20:]),
        "predictions": answer(torch, model, squad_windows(tokenizer, dev), dev),
    }


def answer(torch: Any, model: Any, windows: dict[str, Any], questions: list[Any]) -> dict[str, str]:
    """The best legal span of each question over its windows: start and end logit added."""
    model.eval()
    best: dict[int, tuple[float, str]] = {}
    rows = sorted(windows.values(), key=lambda row: len(row["input_ids"]))
    with torch.inference_mode():
        for at in range(0, len(rows), 32):
            chosen = rows[at : at + 32]
            found = model(**padded(torch, chosen))
            for row, starts, ends in zip(chosen, found.start_logits, found.end_logits, strict=True):
                first, last = row["inside"][0], row["inside"][-1] + 1
                scores = starts[first:last, None] + ends[None, first:last]
                legal = torch.ones_like(scores).triu().tril(MAX_ANSWER_TOKENS - 1) > 0
                scores = scores.masked_fill(~legal, -torch.inf)
                place = int(scores.argmax())
                score = float(scores.flatten()[place])
                start, end = divmod(place, last - first)
                if row["question"] not in best or score > best[row["question"]][0]:
                    a, b = row["offsets"][first + start][0], row["offsets"][first + end][1]
                    best[row["question"]] = score, questions[row["question"]]["context"][a:b]
    return {questions[at]["id"]: text for at, (_, text) in best.items()}


def cut_squad(source: Path, target: Path, questions: int | None) -> None:
    """Keep the first questions."""
    found = json.loads(source.read_text(encoding="utf-8"))
    left = questions or 10**9
    for article in found["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = paragraph["qas"][:left]
            left -= len(paragraph["qas"])
        article["paragraphs"] = [p for p in article["paragraphs"] if p["qas"]]
    found["data"] = [article for article in found["data"] if article["paragraphs"]]
    target.write_text(json.dumps(found), encoding="utf-8")


def prepare_squad(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the first weights, both parts of the data, and the order of the windows."""
    from tfllm.cli.command_line import prepare_environment

    prepare_environment()
    from tfllm import data, models, text, training
    from tfllm.data import tasks
    from tfllm.data.example_numbers import example_numbers

    folder = arguments.work
    cut_squad(arguments.data / "train-v1.1.json", folder / "train.json", arguments.questions)
    cut_squad(arguments.data / "dev-v1.1.json", folder / "dev.json", arguments.dev_questions)
    training.set_seed(arguments.seed)
    tokenizer = text.load(arguments.pretrained)
    model = models.QuestionAnswerer.from_pretrained(arguments.pretrained, seed=arguments.seed)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(folder / "first", tokenizer)

    parts = tasks.read_questions([str(folder / "train.json")], [str(folder / "dev.json")])
    encoder = data.QuestionEncoder(data.FastTokenizer.of(tokenizer), MAX_TOKENS, overlap=OVERLAP)
    rows = data.task_batches(parts.train, encoder, arguments.batch, arguments.seed)
    ids = [example["id"] for example in parts.train]
    names = [
        f"{ids[number]}:{window}"
        for number, window in zip(
            example_numbers(rows.store), rows.store.values("window"), strict=True
        )
    ]
    steps = range(arguments.epochs * rows.steps_per_epoch)
    lines = [" ".join(names[row] for row in rows.plan.rows(step).rows) for step in steps]
    (folder / "order.txt").write_text("\n".join(lines) + "\n")
    return {"steps": len(steps), "windows": len(rows.store)}


def train_squad_here(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the recipe as a user does."""
    folder = arguments.work
    recipe = Path(__file__).parents[2] / "recipes/finetune_question_answering.py"
    flags = {
        "pretrained": folder / "first",
        "train": folder / "train.json",
        "validation": folder / "dev.json",
        "sequence_length": MAX_TOKENS,
        "overlap": OVERLAP,
        "epochs": arguments.epochs,
        "global_batch_size": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        "run_dir": folder / "run",
        "export_dir": folder / "savedmodels",
    }
    command = [sys.executable, recipe]
    command += [f"--{name}={value}" for name, value in flags.items()]
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    record = json.loads((folder / "run/run.json").read_text())
    lines = (folder / "run/validation_predictions.jsonl").read_text().splitlines()
    predictions = {line["id"]: line["predicted"] for line in map(json.loads, lines)}
    return {
        "seconds": record["timing"]["train"],
        "exact_match": record["metrics"]["exact_match"],
        "f1": record["metrics"]["f1"],
        "predictions": predictions,
    }


def compare_squad(arguments: argparse.Namespace) -> None:
    """Train both, and score both files of predictions alike."""
    from tfllm import metrics

    with tempfile.TemporaryDirectory() as folder:
        arguments.work = Path(folder)
        work = ["--work", folder]
        print(json.dumps(run(arguments, sys.executable, "prepare_squad", work)), flush=True)
        dev = [*squad_questions(Path(folder) / "dev.json")]
        references = {question["id"]: [a["text"] for a in question["answers"]] for question in dev}
        for trainer, python in (
            ("squad_here", sys.executable),
            ("squad", arguments.torch_python),
        ):
            found = run(arguments, python, trainer, work)
            scored = metrics.answers(found.pop("predictions"), references)
            print(f"{trainer}: {json.dumps(found)}, scored here: {json.dumps(scored)}", flush=True)


TRAINERS = {
    "sst2": train_sst2,
    "sst2_here": train_sst2_here,
    "prepare_squad": prepare_squad,
    "squad": train_squad,
    "squad_here": train_squad_here,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch_python", required=True, help="Python of an environment with torch")
    parser.add_argument("--here", choices=[*TRAINERS], help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    sst2, squad = commands.add_parser("sst2"), commands.add_parser("squad")
    for command in (sst2, squad):
        command.add_argument("--pretrained", type=Path, required=True)
        command.add_argument("--data", type=Path, required=True)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--batch", type=int, default=16)
        command.add_argument("--learning_rate", type=float, default=5e-5)
    sst2.add_argument("--sentences", type=int, default=3_200, help="the first ones")
    sst2.add_argument("--epochs", type=int, default=1)
    sst2.add_argument("--rounds", type=int, default=3, help="turns of both, one after the other")
    squad.add_argument("--questions", type=int, default=4_000, help="the first ones")
    squad.add_argument("--dev_questions", type=int, help="the first ones; all without it")
    squad.add_argument("--epochs", type=int, default=2)
    return parser.parse_args()


def run(
    arguments: argparse.Namespace, python: str, trainer: str, flags: list[str] | None = None
) -> dict[str, Any]:
    """Run one trainer in a process of its own."""
    command = [python, __file__, "--here", trainer, *(flags or []), *sys.argv[1:]]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def compare_sst2(arguments: argparse.Namespace) -> None:
    """Let both take turns, and print each, then the medians and their ratio."""
    seconds: dict[str, list[float]] = {"sst2": [], "sst2_here": []}
    for number in range(arguments.rounds):
        for trainer, python in (
            ("sst2_here", sys.executable),
            ("sst2", arguments.torch_python),
        ):
            found = run(arguments, python, trainer)
            seconds[trainer].append(found["seconds"])
            print(f"round {number + 1} {trainer}: {json.dumps(found)}", flush=True)
    ours, theirs = (statistics.median(seconds[name]) for name in ("sst2_here", "sst2"))
    print(f"median seconds: tfllm {ours:.1f}, Trainer {theirs:.1f}: {theirs / ours:.2f}×")


def main() -> None:
    arguments = parse()
    if arguments.here:
        print(json.dumps(TRAINERS[arguments.here](arguments)))
    elif arguments.command == "sst2":
        compare_sst2(arguments)
    else:
        compare_squad(arguments)


if __name__ == "__main__":
    main()
