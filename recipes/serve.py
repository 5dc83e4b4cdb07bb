r"""Serve bundles: print the Docker command, or start the preview server that needs no Docker.

    python recipes/serve.py --bundle savedmodels/classifier-reviews
    python recipes/serve.py --bundle savedmodels --preview

TensorFlow Serving is what production runs; the preview has its interfaces, for a try on a machine
without Docker.
"""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from tfllm import cli, export, serving
from tfllm.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    bundle: str = "savedmodels"
    """A bundle, or a folder of bundles, which are all served."""
    preview: bool = False
    """Start the preview server here, in place of printing commands."""
    host: str = "127.0.0.1"
    """Of the preview: the address that it listens on. Whoever can reach it can use the models."""
    rest_port: int = 8501
    """Of the preview: REST's port."""
    grpc_port: int = 8500
    """Of the preview: gRPC's port."""


def main(config: Config) -> None:
    """Bundles in, a server or its command out."""
    for name in ("rest_port", "grpc_port"):
        port = getattr(config, name)
        cli.require(0 <= port < 65536, name, port, "must be a port")
    folder = Path(config.bundle)
    bundles = bundles_of(folder)
    if config.preview:
        settings = serving.PreviewSettings(
            folder=folder, host=config.host, rest_port=config.rest_port, grpc_port=config.grpc_port
        )
        serving.serve_preview(settings)
        return
    if bundles == [folder]:
        print(f"Serve it:\n\n    {serving.docker_run_line(folder)}\n")
        print(f"{folder}/README.md says how to ask it, and how to do so with Docker Compose.")
        return
    mounted = f"/models/{folder.absolute().name}"
    served = [export.ServedModel(path.name, f"{mounted}/{path.name}") for path in bundles]
    print(f"Write this to {folder}/models.config:\n\n{export.models_config(served)}")
    flag = shlex.quote(f"--model_config_file={mounted}/models.config")
    print(f"Serve them:\n\n    {serving.docker_run_line(folder)} {flag}")


def bundles_of(folder: Path) -> list[Path]:
    """Find the bundle that a folder is, or the bundles in it."""
    try:
        if is_version(folder):
            held = f"give {folder.parent}, which holds it"
            raise InputError(f"--bundle {folder} is one version: {held}")
        folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
        found = [path for path in folders if is_bundle(path)]
    except OSError as error:
        place = f"--bundle {error.filename or folder}"
        raise InputError(f"{place} can't be read: {error.strerror}") from error
    if not found:
        raise InputError(
            f"--bundle {folder} holds no bundle, that is, a folder of versions named 1, 2, 3 …"
        )
    return [folder] if found[0] == folder else found


def is_bundle(folder: Path) -> bool:
    """Say whether a folder holds a version."""
    return any(is_version(path) for path in folder.iterdir())


def is_version(folder: Path) -> bool:
    """Say whether a folder is one version of a bundle."""
    return folder.name.isdecimal() and (folder / "saved_model.pb").is_file()


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
