"""A step far out in a large store costs what the first ones cost."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from tfllm.data.array_manifest import FORMAT, ArrayManifest, Column
from tfllm.data.pipeline import TokenBlocks
from tfllm.data.pipeline_packed import PackedDocuments
from tfllm.data.store import TokenStore

TOKENS, DOCUMENTS = 10**9, 20_000


@pytest.fixture(scope="module")
def billion(tmp_path_factory) -> TokenStore:
    """A billion tokens that take no disk."""
    folder = tmp_path_factory.mktemp("billion")
    with (folder / "input_ids.values.bin").open("wb") as file:
        file.truncate(2 * TOKENS)
    (np.arange(DOCUMENTS + 1) * (TOKENS // DOCUMENTS)).tofile(folder / "input_ids.offsets.bin")
    column = Column("uint16", TOKENS, True, "", "")
    encoder = {"encoder": "documents", "tokenizer": "", "start_id": 0}
    counts = {"text_bytes": 0}
    ArrayManifest(FORMAT, "", encoder, DOCUMENTS, counts, {"input_ids": column}).write(folder)
    return TokenStore(folder)


def cost(action) -> tuple[int, int]:
    """Python calls of an action, and the most memory that it takes at a time."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    tracemalloc.start()
    try:
        action()
        return calls, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [TokenBlocks, PackedDocuments])
def test_a_step_costs_the_same_everywhere(billion, kind):
    data = kind(billion, sequence_length=512, global_batch_size=4, seed=0)
    data.batch(0)
    (near, near_bytes), (far, far_bytes) = (
        cost(lambda step=step: data.batch(step)) for step in (10, 10_000_000)
    )
    # A random walk back into the range may take some rounds more.
    assert abs(far - near) < 0.5 * near
    assert abs(far_bytes - near_bytes) < 0.2 * near_bytes
    assert far_bytes < 2**20


CODE = """
import json, re, sys
from pathlib import Path
from tfllm.data.pipeline import TokenBlocks
from tfllm.data.pipeline_packed import PackedDocuments
from tfllm.data.store import TokenStore

def rss():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = rss()
for kind in (TokenBlocks, PackedDocuments):
    data = kind(TokenStore(sys.argv[1]), sequence_length=512, global_batch_size=8, seed=0)
    for step in (10, 10_000_000, data.steps_per_epoch - 1):
        data.batch(step)
print(json.dumps([rss() - before, "tensorflow" in sys.modules]))
"""


def test_anonymous_memory_stays_small(billion):
    command = [sys.executable, "-c", CODE, str(billion.folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    kilobytes, has_tensorflow = json.loads(done.stdout)
    assert kilobytes < 100 * 1024 and not has_tensorflow
