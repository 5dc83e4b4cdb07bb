r"""Ask a bundle about many texts: one text a line in, one JSON object a line out.

    python recipes/predict.py --model savedmodels/classifier-sentiment --texts reviews.txt
    echo "The soup was great." | python recipes/predict.py --model runs/finetune_text_classifier
    python recipes/predict.py --model runs/finetune_text_classifier --texts reviews.txt --explain

A line that is a JSON object names the inputs: {"question": "Who came?", "context": "Ann came."}.
What answers is the bundle, run as TensorFlow Serving runs it; only --explain needs the run folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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
    folder = Path(config.model)
    bundle = bundle_of(folder)
    explain = explainer(folder) if config.explain else None
    serving.log_errors_only()
    with (
        lines_of(config.texts) as lines,
        cli.new_file(config.output, "output") as output,
        serving.Session(serving.newest_version(bundle)) as session,
        cli.progress("answering", "lines") as done,
    ):
        # Many lines at a time, so that lines of like length find one another.
        while block := list(itertools.islice(lines, 64 * config.batch_size)):
            for instance, answer in zip(block, answers(config, session, block), strict=True):
                given = instance if isinstance(instance, dict) else {"text": instance}
                found = {**given, **(answer if isinstance(answer, dict) else {"answer": answer})}
                if explain:
                    found["tokens"] = explain(given, found)
                print(json.dumps(found, ensure_ascii=False), file=output)
            done(len(block))


def bundle_of(folder: Path) -> Path:
    """Find the bundle that a run ended with, or take the folder for one."""
    record = folder / "run.json"
    if not record.is_file():
        return folder
    export = json.loads(record.read_text(encoding="utf-8")).get("export")
    if not export:
        raise InputError(f"the run in {folder} exported no bundle. Give a bundle as --model")
    return Path(export)


@contextlib.contextmanager
def lines_of(path: str) -> Iterator[Iterator[Any]]:
    """Read texts, and objects where a line is one."""
    if path == "-":
        yield _parsed(sys.stdin, "stdin")
        return
    try:
        with open(path, encoding="utf-8") as file:
            yield _parsed(file, path)
    except OSError as error:
        raise InputError(f"--texts {path} can't be read: {error.strerror}") from error


def _parsed(file: IO[str], path: str) -> Iterator[Any]:
    number = 0
    try:
        for number, line in enumerate(file, 1):  # noqa: B007
            line = line.rstrip("\r\n")
            yield json.loads(line) if line.startswith("{") else line
    except UnicodeDecodeError as error:
        raise InputError(f"{path}:{number + 1} is not UTF-8: {error.reason}") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{number} begins like a JSON object and is none: {error.msg} at column "
            f"{error.colno}"
        ) from error


def answers(config: Config, session: serving.Session, block: list[Any]) -> list[Any]:
    """Answer lines in batches of like length, and give the answers in the lines' order."""
    order = sorted(range(len(block)), key=lambda i: len(json.dumps(block[i])))
    found: list[Any] = [None] * len(block)
    for first in range(0, len(order), config.batch_size):
        chosen = order[first : first + config.batch_size]
        request = {
            "signature_name": config.signature,
            "instances": [block[i] for i in chosen],
        }
        try:
            reply = json.loads(serving.answer(session, request))
        except serving.SessionError as error:
            raise InputError(f"the bundle can't answer: {error}") from error
        for i, prediction in zip(chosen, reply["predictions"], strict=True):
            found[i] = _unpadded(prediction) if isinstance(prediction, dict) else prediction
    return found


def _unpadded(answer: dict[str, Any]) -> dict[str, Any]:
    """Give a tagger's entities as objects; a bundle pads them to the row that has most."""
    if "entity" not in answer:
        return answer
    rows = zip(*answer.values(), strict=True)
    entities = [dict(zip(answer, row, strict=True)) for row in rows]
    return {"entities": [entity for entity in entities if entity["start"] >= 0]}


def explainer(folder: Path) -> Any:
    """Give what maps a text and its answer to pairs of a token and its share of the evidence."""
    if not (folder / "model" / "config.json").is_file():
        raise InputError(f"--explain needs the folder of a run with its model. Received: {folder}")
    from tfllm import models, text

    model = models.TextClassifier.from_pretrained(folder / "model")
    tokenizer = text.load(folder / "model")
    config = json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]
    preprocess = text.Preprocessor(tokenizer, sequence_length=config["sequence_length"])

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
