r"""Ask a bundle about many texts: one text a line in, one JSON object a line out.

    python recipes/predict.py --model savedmodels/classifier-sentiment --texts reviews.txt
    echo "The soup was great." | python recipes/predict.py --model runs/finetune_text_classifier
    python recipes/predict.py --model runs/finetune_text_classifier --texts reviews.txt --explain

A line that is a JSON object names the inputs, {"question": "Who came?", "context": "Ann came."};
any other is a text. What answers is the bundle, run as TensorFlow Serving runs it; only --explain
needs the run folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfllm import cli, serving
from tfllm.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    model: str
    """A bundle, one of its versions, or the folder of a finished run."""
    texts: str = "-"
    """File of texts, one a line; - reads what is piped in."""
    output: str = "-"
    """File of answers, which must not exist yet; - prints them."""
    signature: str = "serving_default"
    """What is asked of the bundle."""
    batch_size: int = 32
    """Lines that are answered together; those of like length are."""
    explain: bool = False
    """Of a text classifier's run: how much each token speaks for the answer."""


def main(config: Config) -> None:
    """Texts in, answers out."""
    cli.require(config.batch_size >= 1, "batch_size", config.batch_size, "must be at least 1")
    answers_texts = config.signature == "serving_default" or not config.explain
    cli.require(answers_texts, "explain", config.explain, "explains --signature serving_default")
    folder = Path(config.model)
    record = record_of(folder)
    bundle = serving.newest_version(bundle_of(folder, record) if record else folder)
    explain = explainer(folder, record) if config.explain else None
    serving.log_errors_only()
    with (
        cli.input_lines(config.texts, "texts") as lines,
        cli.new_file(config.output, "output") as output,
        opened(bundle) as session,
        cli.progress("answering", "lines") as done,
    ):
        # Many lines at a time, so that lines of like length find one another.
        while block := list(itertools.islice(lines, 64 * config.batch_size)):
            found = answers(config, session, block)
            for asked, answer in zip(block, found, strict=True):
                given = asked.given if isinstance(asked.given, dict) else {"text": asked.given}
                line = {**given, **(answer if isinstance(answer, dict) else {"answer": answer})}
                if explain:
                    line["tokens"] = explain(given, line)
                print(json.dumps(line, ensure_ascii=False), file=output)
            done(len(block))


def record_of(folder: Path) -> dict[str, Any]:
    """Read what a run left of itself; empty if the folder is no run's."""
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}. Give a bundle") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise InputError(f"{path} is no record of a run. Give a bundle as --model")
    return record


def bundle_of(folder: Path, record: dict[str, Any]) -> Path:
    """Find the bundle that a run ended with."""
    export = record.get("export")
    if not isinstance(export, str):
        raise InputError(f"the run in {folder} exported no bundle. Give a bundle as --model")
    # The run stands where it stood, or the bundle lies beside it as it did.
    places = (Path(export), folder.parent.parent / export)
    return next((place for place in places if place.exists()), places[0])


@contextlib.contextmanager
def opened(bundle: Path) -> Iterator[serving.Session]:
    """Load a bundle."""
    try:
        session = serving.Session(bundle)
    except serving.SessionError as error:
        raise InputError(f"the bundle {bundle} can't be loaded: {error}") from error
    with session:
        yield session


def answers(config: Config, session: serving.Session, block: list[cli.InputLine]) -> list[Any]:
    """Answer lines in batches of like length, and give the answers in the lines' order."""
    order = sorted(range(len(block)), key=lambda i: len(json.dumps(block[i].given)))
    found: list[Any] = [None] * len(block)
    for at in range(0, len(order), config.batch_size):
        chosen = order[at : at + config.batch_size]
        try:
            predictions = ask(config, session, [block[i].given for i in chosen])
        except serving.SessionError:
            predictions = one_by_one(config, session, [block[i] for i in chosen])
        for i, prediction in zip(chosen, predictions, strict=True):
            found[i] = _unpadded(prediction) if isinstance(prediction, dict) else prediction
    return found


def ask(config: Config, session: serving.Session, instances: list[Any]) -> list[Any]:
    """Send one request, as REST would be sent one."""
    request = {"signature_name": config.signature, "instances": instances}
    return json.loads(serving.answer(session, request))["predictions"]


def one_by_one(config: Config, session: serving.Session, lines: list[cli.InputLine]) -> list[Any]:
    """Find the line that can't be answered."""
    found = []
    for line in lines:
        try:
            found += ask(config, session, [line.given])
        except serving.SessionError as error:
            known = session.signatures.get(config.signature)
            takes = (
                f"it takes {', '.join(known.inputs)}"
                if known
                else f"its signatures: {', '.join(session.signatures)}"
            )
            raise InputError(
                f"--texts {line.place}: the bundle can't answer, {takes}: {error}"
            ) from error
    return found


def _unpadded(answer: dict[str, Any]) -> dict[str, Any]:
    """Give a tagger's entities as objects; a bundle pads them to the row that has most."""
    if "entity" not in answer:
        return answer
    rows = zip(*answer.values(), strict=True)
    entities = [dict(zip(answer, row, strict=True)) for row in rows]
    return {"entities": [entity for entity in entities if entity["start"] >= 0]}


def explainer(folder: Path, record: dict[str, Any]) -> Any:
    """Give what maps a text and its answer to pairs of a token and its share of the evidence."""
    path = folder / "model" / "config.json"
    kinds = json.loads(path.read_text())["architectures"] if record and path.is_file() else []
    if not any("ForSequenceClassification" in kind for kind in kinds):
        raise InputError(
            f"--explain needs the folder of a text classifier's run, with its model. Received: "
            f"{folder}"
        )
    from tfllm import models, text

    model = models.TextClassifier.from_pretrained(folder / "model")
    tokenizer = text.load(folder / "model")
    preprocess = text.Preprocessor(
        tokenizer,
        sequence_length=record["config"]["sequence_length"],
        truncation=record["config"].get("truncation", "longest_first"),
    )

    def explain(given: dict[str, str], found: dict[str, Any]) -> list[tuple[str, float]]:
        pair = [given["text_pair"]] if "text_pair" in given else None
        features = preprocess([given["text"]], pair)
        label = model.labels.index(found["label"]) if "label" in found else 0
        shares = models.attribute(model, features, label).numpy()[0]
        names = [tokenizer.fast.id_to_token(i) for i in features["input_ids"].numpy()[0]]
        return [(name, round(float(s), 4)) for name, s in zip(names, shares, strict=True)]

    return explain


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
