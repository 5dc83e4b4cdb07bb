"""Kill exporters at random moments and see that every version they leave is whole.

    python tests/benchmarks/export_kill.py --kills 50

Two processes export into one bundle, over and over; each time both are killed with SIGKILL after a
random while. A version counts as whole if it loads and answers. Exit code 1 if one isn't.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tfllm.serving import Session, log_errors_only  # noqa: E402

EXPORTER = ROOT / "tests" / "export" / "exporter.py"


def main() -> None:
    """Kill, look, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--longest", type=float, default=6.0, help="seconds before a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    log_errors_only()
    generator = random.Random(arguments.seed)
    versions, half_written, broken = 0, 0, []
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, EXPORTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        ) as exporter,
    ):
        for i in range(arguments.kills):
            target = Path(folder) / str(i)
            kill_two(exporter, target, generator.uniform(0.0, arguments.longest))
            left = os.listdir(target / "big") if (target / "big").is_dir() else []
            half_written += any(name.startswith(".tmp-") for name in left)
            for name in filter(str.isdecimal, left):
                versions += 1
                if not is_whole(target / "big" / name):
                    broken.append(f"{i}/{name}")
        assert exporter.stdin is not None
        exporter.stdin.close()
    print(f"{arguments.kills} kills of two exporters: {versions} versions, {len(broken)} not whole")
    print(f"{half_written} kills fell into the writing of a version, which stayed hidden")
    if broken or not versions or not half_written:
        sys.exit(f"not whole: {broken}" if broken else "nothing was shown: give --longest more")


def kill_two(exporter: subprocess.Popen[str], target: Path, seconds: float) -> None:
    """Let two processes export into a folder for a while."""
    assert exporter.stdin is not None and exporter.stdout is not None
    target.mkdir()
    print(target, file=exporter.stdin, flush=True)
    pids = [int(word) for word in exporter.stdout.readline().split()]
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while exporter.stdout.readline().strip() != "dead":
        pass


def is_whole(version: Path) -> bool:
    """Load a version and ask it."""
    try:
        with Session(version) as session:
            lengths = session.run("serving_default", {"texts": ["abc"]})["length"].tolist()
    except (RuntimeError, ValueError):
        return False
    return lengths == [3.0] and (version / "assets.extra" / "tf_serving_warmup_requests").is_file()


if __name__ == "__main__":
    main()
