"""List, check or clear the stores of tokenized text.

    python -m tfllm.data.cache list
    python -m tfllm.data.cache verify
    python -m tfllm.data.cache clear

They lie in `$TFLLM_CACHE_DIR`, or else in `~/.cache/tfllm`; `--cache_dir` names another folder.
"""

from __future__ import annotations

import argparse
import sys

from tfllm.data.array_store import ArrayStore
from tfllm.data.stores import StoreFolder, clear_stores, default_cache_dir, list_stores

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; give the exit code, 2 if a store is damaged."""
    parser = argparse.ArgumentParser(prog="python -m tfllm.data.cache", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=["list", "verify", "clear"])
    parser.add_argument("--cache_dir", default=str(default_cache_dir()))
    chosen = parser.parse_args(arguments)
    if chosen.action == "clear":
        return _list(clear_stores(chosen.cache_dir), "deleted from", chosen.cache_dir)
    stores = list_stores(chosen.cache_dir)
    if chosen.action == "verify":
        return 2 if any([_is_damaged(store) for store in stores]) else 0
    return _list(stores, "in", chosen.cache_dir)


def _list(stores: list[StoreFolder], where: str, cache_dir: str) -> int:
    for store in stores:
        print(store)
    total = sum(store.bytes for store in stores)
    print(f"{len(stores)} stores, {total:,} bytes, {where} {cache_dir}")
    return 0


def _is_damaged(store: StoreFolder) -> bool:
    try:
        ArrayStore(store.folder).verify()
    except ValueError as error:
        print(error)
        return True
    print(f"{store}, whole")
    return False


if __name__ == "__main__":
    sys.exit(main())
