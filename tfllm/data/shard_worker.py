"""A process that writes shards for another one, until that one hangs up or dies.

`python -m tfllm.data.shard_worker DESCRIPTOR`, started by `tfllm.data.shard_workers`.
"""

from __future__ import annotations

import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from tfllm.data.shards import write_shard
from tfllm.errors import InputError

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Say hello, take an encoder, say ready; then write shards of pairs of examples and a path.

    Everything said is a pair of a word and a detail. A shard is answered by `done`, or by what
    went wrong: `input_error` or `os_error` with its message, `error` with its traceback.
    """
    # Ctrl-C goes to the parent too, which hangs up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(descriptor) as parent:
        try:
            parent.send(("hello", ""))
            encoder = parent.recv()
            encoder([])  # builds the tokenizer
            parent.send(("ready", ""))
            while True:
                examples, path = parent.recv()
                parent.send(_serve(examples, encoder, path))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _serve(examples: list, encoder: object, path: str) -> tuple[str, str]:
    try:
        write_shard(examples, encoder, Path(path))  # type: ignore[arg-type]
    except InputError as error:
        return "input_error", str(error)
    except OSError as error:
        return "os_error", error.strerror or str(error)
    except Exception:
        return "error", traceback.format_exc()
    return "done", ""


if __name__ == "__main__":
    main(int(sys.argv[1]))
