"""Which models to serve: from a folder of bundles, or from TF Serving's configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfllm.errors import InputError
from tfllm.serving.preview.served_model import ServedModel
from tfllm.serving.preview.settings import PreviewSettings
from tfllm.serving.session import versions

__all__ = ["configured_models", "models_of_config", "models_of_folder"]

_PLATFORM = "tensorflow"


def configured_models(settings: PreviewSettings) -> list[ServedModel]:
    """Say which models a server is to serve, as the disk is now.

    Raises:
        InputError: none, or they can't be read.
    """
    if settings.model_config_file is not None:
        return models_of_config(settings.model_config_file)
    assert settings.folder is not None
    models = models_of_folder(settings.folder)
    if not models:
        raise InputError(
            f"{settings.folder} holds no bundle: give a folder such as savedmodels/, in which "
            "there are folders NAME/1, NAME/2 …"
        )
    return models


def models_of_folder(folder: Path) -> list[ServedModel]:
    """Take a bundle, or every bundle of a folder, under the name of its folder.

    Raises:
        InputError: the folder can't be listed, or is one version.
    """
    folder = folder.absolute()
    try:
        if folder.name.isdecimal() and (folder / "saved_model.pb").is_file():
            raise InputError(f"{folder} is one version: give {folder.parent}, which holds it")
        if versions(folder):
            return [ServedModel(folder.name, folder)]
        children = sorted(path for path in folder.iterdir() if path.is_dir())
        return [ServedModel(path.name, path) for path in children if versions(path)]
    except OSError as error:
        place = error.filename or folder
        raise InputError(f"can't read the folder of bundles {place}: {error.strerror}") from error


def models_of_config(file: Path) -> list[ServedModel]:
    """Read a `models.config`: a `ModelServerConfig` in protocol buffers' text format.

    Raises:
        InputError: it can't be read, or TF Serving would refuse it.
    """
    # Imported here: a folder of bundles needs neither.
    from google.protobuf import text_format  # type: ignore[import-untyped]

    from tfllm.serving._protos import model_server_config_pb2

    try:
        text = file.read_text()
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise InputError(f"can't read --model_config_file {file}: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--model_config_file {file} is no ModelServerConfig: {reason}") from error
    models = [_model(entry, file) for entry in config.model_config_list.config]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{file} names the model {name!r} twice: give each its own name")
    if not models:
        raise InputError(f"{file} names no model: it needs model_config_list {{ config {{ … }} }}")
    return models


def _model(entry: Any, file: Path) -> ServedModel:
    place = f"model {entry.name!r} of {file}"
    if not entry.name:
        raise InputError(f'{file} holds a model without a name: add name: "…"')
    if entry.model_platform != _PLATFORM:
        raise InputError(
            f'{place} needs model_platform: "tensorflow". Received: {entry.model_platform!r}'
        )
    if not Path(entry.base_path).is_absolute():
        raise InputError(f"{place} needs an absolute base_path. Received: {entry.base_path!r}")
    policy = entry.model_version_policy
    return ServedModel(
        entry.name,
        Path(entry.base_path),
        latest=0 if policy.HasField("all") else policy.latest.num_versions or 1,
        specific=frozenset(policy.specific.versions),
        labels=dict(entry.version_labels),
    )
