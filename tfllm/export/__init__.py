"""Save a model's serving functions as a versioned bundle, proven before it is published.

A name is imported when it is first asked for, so `import tfllm.export` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.export.bundle import Storage, check_name, export_bundle
    from tfllm.export.card import Card
    from tfllm.export.config_files import (
        ServedModel,
        batching_parameters,
        models_config,
        monitoring_config,
    )
    from tfllm.export.errors import ExportError
    from tfllm.export.probes import AWKWARD_TEXTS

__all__ = [
    "AWKWARD_TEXTS",
    "Card",
    "ExportError",
    "ServedModel",
    "Storage",
    "batching_parameters",
    "check_name",
    "export_bundle",
    "models_config",
    "monitoring_config",
]

_HOMES = {
    "AWKWARD_TEXTS": "probes",
    "Card": "card",
    "ExportError": "errors",
    "ServedModel": "config_files",
    "Storage": "bundle",
    "batching_parameters": "config_files",
    "check_name": "bundle",
    "export_bundle": "bundle",
    "models_config": "config_files",
    "monitoring_config": "config_files",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
