"""The room as a whole."""

import subprocess
import sys

import pytest

from tfllm import metrics


def test_importing_it_imports_nothing_heavy():
    heavy = ("sklearn", "scipy", "seqeval", "matplotlib", "tensorflow", "numpy")
    code = f"import sys, tfllm.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_every_name_is_there():
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None and name in dir(metrics)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = metrics.nothing
