import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tfllm.errors import InputError
from tfllm.retrieval import write_vectors

ROWS, WIDTH, STEPS = 1000, 3, 250


def batches(seen, stop=None):
    """Four rows a step, scattered; after `stop` steps somebody pulls the plug."""
    order = np.random.default_rng(0).permutation(ROWS).reshape(STEPS, -1)

    def of(first):
        for step in range(first, STEPS):
            if step == stop:
                raise KeyboardInterrupt
            seen.append(step)
            yield order[step], np.stack([order[step] * 1.0, order[step] ** 0.5, -order[step]], 1)

    return of


def write(path, seen, stop=None, identity="a"):
    made = batches(seen, stop)
    return write_vectors(path, made, rows=ROWS, width=WIDTH, identity=identity)


def test_what_was_stopped_goes_on_and_ends_the_same(tmp_path):
    whole = write(tmp_path / "whole.npy", [])
    np.testing.assert_array_equal(whole[:, 0], np.arange(ROWS))
    path, seen = tmp_path / "v.npy", []
    for stop in (10, 100, 200):
        with pytest.raises(KeyboardInterrupt):
            write(path, seen, stop)
        assert not path.exists()
    write(path, seen)
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    # From marks every 64 steps: 10 anew, 36 after 64, 8 after 192.
    assert len(seen) == 10 + 100 + (200 - 64) + (STEPS - 192)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "v.json",
        "v.npy",
        "whole.json",
        "whole.npy",
    ]


def test_what_another_model_began_is_begun_anew(tmp_path):
    path, seen = tmp_path / "v.npy", []
    with pytest.raises(KeyboardInterrupt):
        write(path, seen, 100)
    write(path, seen, identity="b")
    assert len(seen) == 100 + STEPS


def test_what_others_began_and_left_is_not_taken_for_ours(tmp_path):
    path, seen = tmp_path / "v.npy", []
    for stop, identity in ((100, "a"), (10, "b")):  # the second ends before its first mark
        with pytest.raises(KeyboardInterrupt):
            write(path, [], stop, identity)
    vectors = write(path, seen)
    assert len(seen) == STEPS
    np.testing.assert_array_equal(vectors[:, 0], np.arange(ROWS))


@pytest.mark.parametrize("damaged", ["{", "[]"])
def test_a_damaged_note_is_begun_anew(tmp_path, damaged):
    path, seen = tmp_path / "v.npy", []
    with pytest.raises(KeyboardInterrupt):
        write(path, seen, 100)
    (tmp_path / "v.json").write_text(damaged)
    write(path, seen)
    assert len(seen) == 100 + STEPS


def test_a_killed_process_leaves_what_can_go_on(tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); import test_vector_file as t\n"
        "def of(first):\n"
        "    for step, batch in enumerate(t.batches([])(first)):\n"
        "        if step == 150: os.kill(os.getpid(), 9)\n"
        "        yield batch\n"
        "t.write_vectors(sys.argv[1], of, rows=t.ROWS, width=t.WIDTH, identity='a')\n"
    )
    path, here = tmp_path / "v.npy", os.path.dirname(__file__)
    killed = subprocess.run([sys.executable, "-c", code, path, here])
    assert killed.returncode == -signal.SIGKILL and not path.exists()
    seen = []
    write(path, seen)
    write(tmp_path / "whole.npy", [])
    assert seen[0] == 128
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_two_do_not_write_at_once(tmp_path):
    path = tmp_path / "v.npy"

    def of(first):
        with pytest.raises(InputError, match="another process is writing the vectors in"):
            write(path, [], identity="b")
        yield from batches([])(first)

    write_vectors(path, of, rows=ROWS, width=WIDTH, identity="a")
    np.testing.assert_array_equal(write(path, [])[:, 0], np.arange(ROWS))


def test_what_is_whole_is_opened_and_nothing_is_overwritten(tmp_path):
    path, seen = tmp_path / "v.npy", []
    write(path, seen)
    np.testing.assert_array_equal(write(path, seen)[:, 0], np.arange(ROWS))
    assert len(seen) == STEPS
    with pytest.raises(InputError, match="another corpus or model"):
        write(path, [], identity="b")
    path.write_bytes(b"junk")
    with pytest.raises(InputError, match=r"v.npy is damaged: .* Remove it, and run again"):
        write(path, [])
    with pytest.raises(InputError, match="can't be written"):
        write(tmp_path / "no" / "v.npy", [])
