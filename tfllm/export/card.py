"""A bundle's model card: what it does, how to ask it, how to serve it and go back."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from tfllm.export.config_files import ServedModel, models_config
from tfllm.export.deployment import REST_PORT, SERVER
from tfllm.export.gate import Proof
from tfllm.export.server_versions import server_versions

__all__ = ["Card", "card_text"]

_MOST_LABELS = 50


@dataclasses.dataclass(frozen=True)
class Card:
    """What only the exporter knows of a model.

    Attributes:
        task: in words: `"text classification"`.
        labels: names of the classes, if it has some.
        metrics: what was measured, as `run.json` holds it; None for what is no number, such as
            the F1 of a class that nobody named.
        notes: more lines of Markdown: the data, its licence, what the model is not for.
    """

    task: str = ""
    labels: Sequence[str] = ()
    metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    notes: str = ""


def card_text(
    card: Card,
    name: str,
    version: int,
    *,
    proof: Proof,
    byte_counts: Mapping[str, int],
    storage: str,
) -> str:
    """Write the card.

    Args:
        card: what the exporter said.
        name: the bundle's.
        version: whose card it is, the newest.
        proof: the gate's.
        byte_counts: part of the version → bytes.
        storage: type that matrices are stored in.
    """
    sections = [
        f"# {name}",
        f"{card.task[:1].upper()}{card.task[1:]}." if card.task else "",
        card.notes.strip(),
        _labels(card.labels),
        _metrics(card.metrics),
        *_examples(name, proof.examples),
        _serving(name),
        _labels_of_versions(name, version),
        _servers(proof.ops),
        _facts(version, proof, byte_counts, storage),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _labels(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    shown = "\n".join(f"- {_one_line(label)}" for label in labels[:_MOST_LABELS])
    more = len(labels) - _MOST_LABELS
    return f"## Labels\n\n{shown}" + (f"\n- … and {more} more" if more > 0 else "")


def _metrics(metrics: Mapping[str, float | None]) -> str:
    if not metrics:
        return ""
    rows = "\n".join(f"| {_one_line(key)} | {_number(value)} |" for key, value in metrics.items())
    return f"## Measured\n\n| what | |\n|---|---|\n{rows}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.6g}"


def _examples(name: str, examples: Mapping[str, Any]) -> list[str]:
    """Write a curl for each signature, the default first, and what the bundle really answered."""
    order = sorted(examples, key=lambda key: (key != "serving_default", key))
    return [_example(name, signature, examples[signature]) for signature in order]


def _example(name: str, signature: str, example: Mapping[str, Any]) -> str:
    inputs = example["inputs"]
    instance = next(iter(inputs.values())) if len(inputs) == 1 else inputs
    body = {"signature_name": signature} if signature != "serving_default" else {}
    request = json.dumps(body | {"instances": [instance]}, ensure_ascii=False)
    outputs = example["outputs"]
    row = next(iter(outputs.values())) if len(outputs) == 1 else outputs
    answer = json.dumps({"predictions": [row]}, ensure_ascii=False)
    url = f"http://127.0.0.1:{REST_PORT}/v1/models/{name}:predict"
    return (
        f"## Signature {signature}\n\n"
        f"{_fenced(f'curl {url} --data {shlex.quote(request)}', 'sh')}\n\n"
        f"The bundle's answer:\n\n{_fenced(_cut(answer), 'json')}"
    )


def _cut(text: str, most: int = 2000) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _serving(name: str) -> str:
    return f"""## Serving

{_fenced("docker compose --profile cpu up    # or: --profile gpu", "sh")}

runs TensorFlow Serving {SERVER} on this folder: REST on {REST_PORT}, gRPC on 8500. A new version \
beside the others is taken up by itself. `kubernetes.yaml` does the same in a cluster; its claim \
holds this folder as `{name}/`. Metrics for Prometheus are on the REST port.

`batching_params.pbtxt` in each version is read with `--enable_batching \
--enable_per_model_batching_parameters`. Signatures that take token ids must then be sent rows of \
one width; text needs no care."""


def _labels_of_versions(name: str, version: int) -> str:
    old = max(1, version - 1)
    labels = {"stable": old, "canary": version} if version > old else {"stable": version}
    versions = sorted(set(labels.values()))
    model = ServedModel(name, f"/models/{name}", versions, labels)
    url = f"http://127.0.0.1:{REST_PORT}/v1/models/{name}/labels"
    return f"""## Canary and rollback

Put this into `models.config`, and the server, which looks at it every 30 seconds, serves both \
versions under labels, `{url}/stable:predict` and `{url}/canary:predict`:

{_fenced(models_config([model]).rstrip(), "proto")}

First add the version and wait until its state is AVAILABLE, then the label. To take the canary \
for good, let `stable` stand for it; to roll back, let `stable` stand for the old version again, \
which is still loaded, and take the new one out of `specific`."""


def _servers(ops: Sequence[str]) -> str:
    rows = "\n".join(f"| {release} | {what} |" for release, what in server_versions(ops))
    return f"## Servers\n\n| TensorFlow Serving | runs this bundle |\n|---|---|\n{rows}"


def _facts(version: int, proof: Proof, byte_counts: Mapping[str, int], storage: str) -> str:
    parts = ", ".join(f"{part} {count / 1e6:.1f} MB" for part, count in byte_counts.items())
    stored = "" if storage == "float32" else f" Weights are stored as {storage}, used as float32."
    return (
        f"## Version {version}\n\n"
        f"{sum(byte_counts.values()) / 1e6:.1f} MB ({parts}).{stored} It loaded in "
        f"{proof.load_seconds:.1f} s on the machine that exported it, and answered "
        f"{proof.requests} requests as the model did."
    )


def _fenced(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
