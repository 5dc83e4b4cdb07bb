import pytest

from tfllm.errors import InputError
from tfllm.planning import free_memory

MEMINFO = "MemTotal:  9000 kB\nMemFree:  100 kB\nMemAvailable:  5000 kB\n"


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def cgroup_2(limit):
    folder = "sys/fs/cgroup"
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": "1000000\n",
        f"{folder}/memory.stat": "anon 7\ninactive_file 200000\n",
    }


def cgroup_1(limit):
    folder = "sys/fs/cgroup/memory"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": "1000000\n",
        f"{folder}/memory.stat": "inactive_file 1\ntotal_inactive_file 300000\n",
    }


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 5000 * 1024),
        (cgroup_2("max"), 5000 * 1024),
        (cgroup_2(3_000_000), 2_200_000),
        (cgroup_2(900_000), 100_000),
        (cgroup_2(10**12), 5000 * 1024),
        (cgroup_1(3_000_000), 2_300_000),
        (cgroup_1(9223372036854771712), 5000 * 1024),
    ],
)
def test_the_least_of_machine_and_container_is_free(tmp_path, files, free):
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert free_memory(tmp_path) == free


def test_a_full_container_has_nothing_free(tmp_path):
    write(tmp_path, {"proc/meminfo": MEMINFO, **cgroup_2(500_000)})
    assert free_memory(tmp_path) == 0


def test_a_system_that_does_not_say_is_refused(tmp_path):
    with pytest.raises(InputError, match="--memory_gib"):
        free_memory(tmp_path)


def test_this_machine_has_some():
    assert free_memory() > 1 << 20
