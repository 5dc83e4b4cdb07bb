"""What every recipe has in common: flags, exit codes, the run's folder and its record.

Importing this imports no TensorFlow, so that `--help` is instant.
"""

from tfllm.cli.command_line import main
from tfllm.cli.common_config import CommonConfig, require
from tfllm.cli.run import Run

__all__ = ["CommonConfig", "Run", "main", "require"]
