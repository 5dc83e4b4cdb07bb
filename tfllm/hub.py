"""Files of a model on Hugging Face's hub, or of what its cache on this machine holds."""

from __future__ import annotations

import functools
from pathlib import Path

from tfllm.errors import InputError

__all__ = ["hub_file"]

_SECONDS = 10.0


def hub_file(name: str, file_name: str) -> Path | None:
    """Give the path of a file, which is downloaded unless the cache has it.

    The hub is asked once which files there are. Where it can't be reached, the cache alone counts,
    and nobody waits for a second try.

    Args:
        name: of a model on the hub: `gpt2`, `google-bert/bert-base-uncased`.
        file_name: within the repository.

    Returns:
        None where the model has no such file.

    Raises:
        InputError: if there is no such model, it may not be read, or it is not in the cache and
            the hub can't be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    files = _files(name)
    if files is not None and file_name not in files:
        return None
    try:
        return Path(hf_hub_download(name, file_name, local_files_only=files is None))
    except LocalEntryNotFoundError:
        if files is None and _is_cached(name):
            return None
        raise _unreachable(name) from None
    except OSError as error:
        raise InputError(f"{name!r}: the hub gave no {file_name} ({_first_line(error)})") from None


@functools.cache
def _files(name: str) -> frozenset[str] | None:
    """List a model's files on the hub; None where it can't be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        siblings = HfApi().model_info(name, timeout=_SECONDS).siblings or []
    except (RepositoryNotFoundError, HFValidationError):
        raise InputError(
            f"{name!r} is neither a local folder nor a model on Hugging Face's hub that may be "
            "read. Give the path of a folder that exists, or check the name"
        ) from None
    except OSError:  # what can't be reached, is too slow, or answers that it has failed
        return None
    return frozenset(sibling.rfilename for sibling in siblings)


def _is_cached(name: str) -> bool:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = repo_folder_name(repo_id=name, repo_type="model")
    return (Path(constants.HF_HUB_CACHE) / folder).is_dir()


def _unreachable(name: str) -> InputError:
    return InputError(
        f"{name!r} is no local folder, Hugging Face's hub can't be reached, and its cache on this "
        "machine does not hold it. Give the path of a folder that exists, or check the network"
    )


def _first_line(error: OSError) -> str:
    return str(error).strip().partition("\n")[0]
