"""Killed −9 and started again, a run ends with the same files, bit for bit.

Compared are all files of its checkpoints: weights, optimizer, average, best epoch and state.
`tests/benchmarks/kill.py` does the same with twenty kills.
"""

import kill_recipe
import pytest


def assert_same(files: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    assert files.keys() == wanted.keys()
    assert [name for name in files if files[name] != wanted[name]] == []


def folders(files: dict[str, bytes]) -> set[str]:
    return {name.split("/")[1] for name in files if "/" in name}


def test_killed_three_times(tmp_path):
    steps = 28
    wanted = kill_recipe.run_whole(tmp_path / "whole", "--steps", steps)
    # The last epoch is not the best.
    assert folders(wanted) == {"best-000000021", "step-000000026", "step-000000028"}
    kills = ["random", "replacing", "weights"]
    assert_same(kill_recipe.run_killed(tmp_path / "killed", steps=steps, kills=kills), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--devices", 2), ("--model", "causal_lm")])
def test_killed_at_each_of_the_worst_moments(tmp_path, flags):
    steps = 140
    wanted = kill_recipe.run_whole(tmp_path / "whole", "--steps", steps, *flags)
    kills = [*kill_recipe.MOMENTS, "random"]
    killed = kill_recipe.run_killed(tmp_path / "killed", *flags, steps=steps, kills=kills)
    assert_same(killed, wanted)
