import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parent.parent.parent / "recipes"


class Done:
    """A recipe that has ended: its exit code, what it printed, and its record."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr

    @property
    def record(self) -> dict[str, Any]:
        assert self.code == 0, self.err
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def recipe(tmp_path) -> Callable[..., Done]:
    def run(name: str, *flags: object, before: Callable[[], None] | None = None) -> Done:
        command = [sys.executable, str(RECIPES / f"{name}.py"), *map(str, flags)]
        process = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=before
        )
        return Done(process)

    return run
