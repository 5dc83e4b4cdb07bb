"""Real data lies beside the checkout, or where `TFLLM_SHARED_DATA` says."""

import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get("TFLLM_SHARED_DATA")
    or Path(__file__).parent.parent.parent.parent / "shared" / "data"
)


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set TFLLM_SHARED_DATA")
    return DATA
