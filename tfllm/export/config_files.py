"""TensorFlow Serving's own configuration files, in protobuf's text format."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tfllm.errors import InputError

__all__ = ["ServedModel", "batching_parameters", "models_config", "monitoring_config"]

METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model that a server is told to serve.

    Attributes:
        name: what requests call it.
        base_path: folder of its versions, absolute, as the server sees it.
        versions: which are served; empty for the newest.
        labels: name → version, for `/v1/models/NAME/labels/LABEL`. The server refuses labels of
            versions that it has not loaded, in its first file too, unless it runs with
            `--allow_version_labels_for_unavailable_models=true`.
    """

    name: str
    base_path: str
    versions: Sequence[int] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)


def models_config(models: Sequence[ServedModel]) -> str:
    """Write the file of `--model_config_file`.

    Raises:
        InputError: if the server would not start with it.
    """
    for i, model in enumerate(models):
        if model.name in (other.name for other in models[:i]):
            raise InputError(f"two models are called {model.name!r}: the server would not start")
        if "://" not in model.base_path and not PurePosixPath(model.base_path).is_absolute():
            raise InputError(
                f"base_path of {model.name!r} must be absolute. Received: {model.base_path!r}"
            )
        missing = sorted(set(model.labels.values()) - set(model.versions))
        if missing and model.versions:
            raise InputError(
                f"a label of {model.name!r} stands for version {missing[0]}, which is not among "
                f"the served ones {list(model.versions)}"
            )
    entries = "".join(_model_entry(model) for model in models)
    return f"model_config_list {{\n{entries}}}\n"


def _model_entry(model: ServedModel) -> str:
    lines = [
        f"name: {_quoted(model.name)}",
        f"base_path: {_quoted(model.base_path)}",
        'model_platform: "tensorflow"',
    ]
    if model.versions:
        numbers = " ".join(f"versions: {number}" for number in model.versions)
        lines.append(f"model_version_policy {{ specific {{ {numbers} }} }}")
    else:
        lines.append("model_version_policy { latest { num_versions: 1 } }")
    for label, number in sorted(model.labels.items()):
        lines.append(f"version_labels {{ key: {_quoted(label)} value: {number} }}")
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def monitoring_config() -> str:
    """Write the file of `--monitoring_config_file`: metrics on the REST port, for Prometheus."""
    return f'prometheus_config {{\n  enable: true\n  path: "{METRICS_PATH}"\n}}\n'


def batching_parameters(
    *,
    max_batch_size: int = 32,
    batch_timeout_micros: int = 0,
    max_enqueued_batches: int = 100,
) -> str:
    """Write a version's `batching_params.pbtxt`.

    The server reads it with `--enable_batching --enable_per_model_batching_parameters`. Requests
    that wait are put into one batch; larger ones are split. Threads are the server's to say.

    Args:
        max_batch_size: rows of a batch.
        batch_timeout_micros: how long a batch waits for more rows; 0 takes those that are there.
        max_enqueued_batches: what waits beyond them is answered 503.

    Raises:
        InputError: if a number is too small.
    """
    numbers = {
        "max_batch_size": max_batch_size,
        "batch_timeout_micros": batch_timeout_micros,
        "max_enqueued_batches": max_enqueued_batches,
    }
    for name, number in numbers.items():
        if number < (0 if name == "batch_timeout_micros" else 1):
            raise InputError(f"{name} is too small. Received: {number}")
    lines = [f"{name} {{ value: {number} }}" for name, number in numbers.items()]
    lines.append("enable_large_batch_splitting { value: true }")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    r"""Write a string as protobuf's text format does, bytes beyond ASCII as `\ooo`."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}"
        for byte in text.encode()
    )
    return f'"{escaped}"'
