import subprocess
import sys
from pathlib import Path


def test_two_devices_equal_one(tmp_path):
    """In a process of its own: logical devices must be made before TensorFlow starts."""
    program = Path(__file__).with_name("mirrored_program.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "equal\n", done.stderr[-3000:]
