import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfllm.data import array_building, shard_workers
from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders import DocumentEncoder, Encoded, Ragged
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.readers import JsonLines
from tfllm.data.stores import clear_stores, list_stores
from tfllm.errors import InputError

WORDS = "the cat sat on the mat dog ate".split()


@dataclasses.dataclass(frozen=True)
class Squares:
    """Of an example {"n": 3}: the ragged column 0 1 4, the fixed column 3."""

    version: int = 1

    def identity(self) -> dict[str, Any]:
        return {"encoder": "squares", "version": self.version}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Encoded:
        numbers = [example["n"] for example in examples]
        if 666 in numbers:
            raise InputError(f"bad number after {numbers[0]}")
        squares = Ragged.of([[k * k for k in range(n)] for n in numbers], np.dtype(np.int32))
        columns = {"squares": squares, "n": np.array(numbers, np.float32)}
        return Encoded(columns, {"seen": len(numbers)})


def documents(count: int) -> list[dict[str, str]]:
    rng = random.Random(0)
    return [{"text": " ".join(rng.choices(WORDS, k=rng.randrange(40)))} for _ in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def store(tmp_path) -> ArrayStore:
    examples = [{"n": n} for n in (3, 0, 1, 4)]
    return build_array_store(examples, Squares(), cache_dir=tmp_path)


def test_columns_by_hand(store):
    assert len(store) == 4
    assert store.values("squares").tolist() == [0, 1, 4, 0, 0, 1, 4, 9]
    assert store.offsets("squares").tolist() == [0, 3, 3, 4, 8]
    assert store.lengths("squares").tolist() == [3, 0, 1, 4]
    assert store.row("squares", 3).tolist() == [0, 1, 4, 9]
    assert store.values("n").tolist() == [3, 0, 1, 4] and store.row("n", 2).tolist() == [1]
    assert isinstance(store.values("squares"), np.memmap)
    assert store.manifest.counts == {"seen": 4}
    assert store.bytes == 8 * 4 + 5 * 8 + 4 * 4
    assert str(store.folder) in str(store) and "cache clear" in str(store)


def test_nothing_at_all_is_a_store_too(tmp_path):
    store = build_array_store([], Squares(), cache_dir=tmp_path)
    assert len(store) == 0 and store.values("squares").dtype == np.int32
    assert store.offsets("squares").tolist() == [0]
    store.verify()


def test_a_store_cut_off_anywhere_is_rebuilt(store, tmp_path):
    whole = contents(store.folder)
    for name, data in whole.items():
        for size in range(len(data) if name != "manifest.json" else len(data) - 1):
            (store.folder / name).write_bytes(data[:size])
            with pytest.raises(ValueError, match="cut off|no whole store"):
                ArrayStore(store.folder)
        (store.folder / name).unlink()
        again = build_array_store([{"n": n} for n in (3, 0, 1, 4)], Squares(), cache_dir=tmp_path)
        assert again.folder == store.folder and contents(store.folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == [store.folder.name]


def test_a_flipped_byte_is_seen(store):
    for name, data in contents(store.folder).items():
        for place in range(len(data) - 1):  # a manifest's last byte is its line end
            flipped = bytearray(data)
            flipped[place] ^= 1 << place % 8
            (store.folder / name).write_bytes(flipped)
            with pytest.raises(ValueError, match="damaged|no whole store"):
                ArrayStore(store.folder).verify()
        (store.folder / name).write_bytes(data)
    ArrayStore(store.folder).verify()


def test_the_manifest_proves_the_arrays(store):
    manifest = json.loads((store.folder / "manifest.json").read_text())
    for name, data in contents(store.folder).items():
        column, kind, *_ = name.split(".")
        if kind != "json":
            key = "sha256" if kind == "values" else "offsets_sha256"
            assert manifest["columns"][column][key] == hashlib.sha256(data).hexdigest()


def test_other_examples_or_settings_make_another_store(tmp_path):
    examples = [{"n": 1}, {"n": 2}]
    stores = [
        build_array_store(examples, Squares(), cache_dir=tmp_path),
        build_array_store(examples[::-1], Squares(), cache_dir=tmp_path),
        build_array_store(examples, Squares(version=2), cache_dir=tmp_path),
        build_array_store([{"n": 1}, {"n": 2, "more": ""}], Squares(), cache_dir=tmp_path),
    ]
    assert len({store.folder for store in stores}) == 4
    before = contents(stores[0].folder)
    assert build_array_store(examples, Squares(), cache_dir=tmp_path).folder == stores[0].folder
    assert contents(stores[0].folder) == before


@pytest.mark.parametrize("processes", [None, 1, 3])
def test_any_number_of_processes_writes_the_same_bytes(tokenizer, tmp_path, processes, monkeypatch):
    monkeypatch.setattr(array_building, "_CHUNK_CHARACTERS", 500)
    monkeypatch.setattr(shard_workers, "_FEW", 4)
    encoder = DocumentEncoder(FastTokenizer.of(tokenizer))
    examples = documents(300)
    alone = build_array_store(examples, encoder, cache_dir=tmp_path / "0", processes=0)
    many = build_array_store(examples, encoder, cache_dir=tmp_path / "n", processes=processes)
    assert contents(many.folder) == contents(alone.folder)
    assert many.manifest.rows == 300
    ids = [encoding.ids for encoding in tokenizer.fast.encode_batch([e["text"] for e in examples])]
    assert [many.row("input_ids", row).tolist()[1:] for row in range(300)] == ids
    assert [path.name for path in (tmp_path / "n").iterdir()] == [many.folder.name]


@dataclasses.dataclass(frozen=True)
class Marking(Squares):
    """Leaves a file when it encodes in another process, and may take that process down."""

    mark: str = ""
    spared: int = 0
    deadly: bool = False

    def __call__(self, examples):
        if os.getpid() != self.spared and examples:
            Path(self.mark).touch()
            if self.deadly:
                os._exit(7)
        return super().__call__(examples)


def until(mark: Path, more: int):
    """Examples that go on until the mark is there."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not mark.exists():
        yield {"n": 1}
        time.sleep(0.01)
    for _ in range(more):
        yield {"n": 2}
        time.sleep(0.01)


@dataclasses.dataclass
class Endless:
    mark: Path
    more: int

    def digest(self) -> str:
        return "0"

    def __iter__(self):  # noqa: D105
        return until(self.mark, self.more)


def test_other_processes_do_encode(tmp_path, monkeypatch):
    monkeypatch.setattr(array_building, "_CHUNK_EXAMPLES", 1)
    mark = tmp_path / "mark"
    encoder = Marking(mark=str(mark), spared=os.getpid())
    store = build_array_store(Endless(mark, 1), encoder, cache_dir=tmp_path / "c", processes=1)
    assert mark.exists() and store.values("n")[-1] == 2


def test_a_process_that_dies_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(array_building, "_CHUNK_EXAMPLES", 1)
    mark = tmp_path / "mark"
    encoder = Marking(mark=str(mark), spared=os.getpid(), deadly=True)
    with pytest.raises(InputError, match="ended with exit code 7"):
        build_array_store(Endless(mark, 6000), encoder, cache_dir=tmp_path / "c", processes=1)
    assert list((tmp_path / "c").iterdir()) == []


def test_the_first_bad_example_is_the_one_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(array_building, "_CHUNK_EXAMPLES", 2)
    examples = [{"n": n} for n in (1, 2, 3, 4, 5, 666, 6, 666, 7, 666)]
    for processes in (0, 2):
        with pytest.raises(InputError, match="bad number after 5"):
            build_array_store(examples, Squares(), cache_dir=tmp_path, processes=processes)
    assert list(tmp_path.iterdir()) == []


def test_a_generator_or_changing_examples_are_refused(tmp_path):
    with pytest.raises(InputError, match="can be read only once"):
        build_array_store(({"n": n} for n in (1, 2)), Squares(), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="JSON doesn't know.*bytes"):
        build_array_store([{"n": b"1"}], Squares(), cache_dir=tmp_path)


def test_a_digest_of_its_own_names_a_source(tmp_path):
    class Source(list):
        content = "a"
        reads = 0

        def __iter__(self):
            Source.reads += 1
            return super().__iter__()

        def digest(self) -> str:
            return self.content

    source = Source([{"n": 1}])
    first = build_array_store(source, Squares(), cache_dir=tmp_path)
    assert build_array_store(source, Squares(), cache_dir=tmp_path).folder == first.folder
    assert Source.reads == 1
    source.content = "b"
    assert build_array_store(source, Squares(), cache_dir=tmp_path).folder != first.folder
    assert first.manifest.source == "a"


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_arrays import Squares
from tfllm.data import array_building, shard_workers

class Slow:
    def digest(self): return "slow"
    def __iter__(self):
        for n in range(1000):
            yield {"n": n}
            if n == 20:
                print("now", flush=True)
                time.sleep(600)

array_building._CHUNK_EXAMPLES = 2
array_building.build_array_store(Slow(), Squares(), cache_dir=sys.argv[1], processes=1)
"""


def lives(process: str) -> bool:
    """Whether it runs; one that nobody has waited for yet has no command line."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_what_a_killed_builder_leaves_is_cleared(tmp_path):
    # A script without a guard: the processes it starts don't import it.
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    cache = tmp_path / "cache"
    command = [sys.executable, str(script), str(cache), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
        assert builder.stdout.readline() == b"now\n"
        (hidden,) = cache.iterdir()
        os.utime(hidden, (0, 0))
        build_array_store([{"n": 1}], Squares(), cache_dir=cache)
        assert hidden.exists() and list_stores(cache) != []  # its builder lives
        children = Path(f"/proc/{builder.pid}/task/{builder.pid}/children").read_text().split()
        assert len(children) == 1
        builder.send_signal(signal.SIGKILL)
        builder.wait()
    assert hidden.exists()
    for _ in range(300):  # a process whose parent has died ends
        if not any(lives(child) for child in children):
            break
        time.sleep(0.1)
    assert not any(lives(child) for child in children)
    os.utime(hidden)
    build_array_store([{"n": 2}], Squares(), cache_dir=cache)
    assert hidden.exists()  # young: perhaps its builder is about to lock it
    os.utime(hidden, (0, 0))
    build_array_store([{"n": 3}], Squares(), cache_dir=cache)
    assert not hidden.exists() and len(list_stores(cache)) == 3


def test_builders_of_one_store_do_not_hurt_each_other(store, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_store_arrays import *\n"
        "examples = [{'n': n % 50} for n in range(2000)]\n"
        "build_array_store(examples, Squares(), cache_dir=sys.argv[1]).verify()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    builders = [subprocess.Popen(command) for _ in range(3)]
    assert [builder.wait() for builder in builders] == [0, 0, 0]
    assert len(list_stores(tmp_path)) == 2 and len(list(tmp_path.iterdir())) == 2


def test_listing_and_clearing(store, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "folder").mkdir()
    (found,) = list_stores(tmp_path)
    assert found.folder == store.folder and found.manifest == store.manifest
    assert found.bytes == store.bytes + (store.folder / "manifest.json").stat().st_size
    assert "4 rows of squares" in str(found)
    (store.folder / "manifest.json").unlink()
    assert "unreadable" in str(list_stores(tmp_path)[0])
    assert [entry.folder for entry in clear_stores(tmp_path)] == [store.folder]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "mine.txt"]
    assert store.values("n").tolist() == [3, 0, 1, 4]  # what is open stays readable
    assert list_stores(tmp_path / "none") == clear_stores(tmp_path / "none") == []


def test_the_command(store, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tfllm.data.cache", *arguments, "--cache_dir", tmp_path]
        return subprocess.run(command, capture_output=True, text=True)

    listed = run("list")
    assert listed.returncode == 0 and str(store.folder) in listed.stdout
    assert run("verify").returncode == 0
    path = store.folder / "n.values.bin"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    damaged = run("verify")
    assert damaged.returncode == 2 and "n.values.bin is damaged" in damaged.stdout
    assert run("clear").returncode == 0 and not store.folder.exists()


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="can't be written.*TFLLM_CACHE_DIR"):
        build_array_store([{"n": 1}], Squares(), cache_dir=tmp_path / "file")


def test_columns_that_do_not_fit_are_a_defect(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Uneven(Squares):
        def __call__(self, examples):
            return Encoded({"a": np.zeros(2), "b": np.zeros(3)}, {})

    with pytest.raises(ValueError, match="equally many rows.*'a': 2, 'b': 3"):
        build_array_store([{"n": 1}], Uneven(), cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_copied_store_opens(store, tmp_path):
    shutil.copytree(store.folder, tmp_path / "elsewhere")
    assert ArrayStore(tmp_path / "elsewhere").values("n").tolist() == [3, 0, 1, 4]


def test_a_reader_names_its_source_and_what_it_left_out(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the cat"}\nnonsense\n{"text": "sat"}\n')
    encoder = DocumentEncoder(FastTokenizer.of(tokenizer))

    def build() -> ArrayStore:
        reader = JsonLines(path, {"text": "text"}, on_error="skip")
        return build_array_store(reader, encoder, cache_dir=tmp_path)

    store = build()
    assert len(store) == 2 and store.manifest.counts == {"text_bytes": 10, "rows_skipped": 1}
    assert build().manifest.counts == store.manifest.counts and build().folder == store.folder
    path.write_text('{"text": "the cat"}\n')
    assert build().folder != store.folder


def test_a_full_disk_in_another_process_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.setattr(array_building, "_CHUNK_EXAMPLES", 1)
    for processes in (0, 1):
        with pytest.raises(InputError, match="can't be written: No space left on device"):
            build_array_store([{"n": 1}] * 3, Full(), cache_dir=tmp_path, processes=processes)
    assert list(tmp_path.iterdir()) == []


@dataclasses.dataclass(frozen=True)
class Full(Squares):
    """Meets a full disk, as `/dev/full` is."""

    def __call__(self, examples):
        if examples:
            with open("/dev/full", "w") as file:
                file.write("x")
        return super().__call__(examples)
