"""What every recipe has in common: flags, exit codes, the run's folder and its record.

Importing this imports no TensorFlow, so that `--help` is instant.
"""

from tfllm.cli.bundle_writer import BundleWriter
from tfllm.cli.chat import chat
from tfllm.cli.command_line import main
from tfllm.cli.common_config import CommonConfig, require
from tfllm.cli.fine_tuning_config import FineTuningConfig
from tfllm.cli.generation_config import GenerationConfig
from tfllm.cli.input_lines import InputLine, input_lines
from tfllm.cli.launch import launch
from tfllm.cli.launcher import Launcher
from tfllm.cli.model_writer import ModelWriter
from tfllm.cli.new_file import new_file
from tfllm.cli.private_network import enter_private_network
from tfllm.cli.progress import progress
from tfllm.cli.run import Run
from tfllm.cli.run_directory import check_writable
from tfllm.cli.show_pieces import show_pieces
from tfllm.cli.tool import tool
from tfllm.cli.unescaped import unescaped
from tfllm.cli.writer import Writer

__all__ = [
    "BundleWriter",
    "CommonConfig",
    "FineTuningConfig",
    "GenerationConfig",
    "InputLine",
    "Launcher",
    "ModelWriter",
    "Run",
    "Writer",
    "chat",
    "check_writable",
    "enter_private_network",
    "input_lines",
    "launch",
    "main",
    "new_file",
    "progress",
    "require",
    "show_pieces",
    "tool",
    "unescaped",
]
