import json
import shutil
import subprocess
import sys

import pytest

from tfllm.serving import (
    curl_line,
    docker_run_line,
    next_commands_text,
    preview_line,
    request_body,
)

TEXTS = ['it\'s "fine" $HOME `id` \\ !', "今天🙂", "a\x00b\n\x1b[31m", "", "'"]


def words_seen_by_the_program(line, shell):
    """Run a line with its program replaced by one that prints its arguments."""
    program = line.split()[0]
    script = f"{program}() {{ printf '%s\\0' \"$@\"; }}\n{line}\n"
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_curl_sends_the_texts_whatever_they_hold(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    words = words_seen_by_the_program(curl_line("sst2", TEXTS), shell)
    assert words[:2] == ["http://127.0.0.1:8501/v1/models/sst2:predict", "--data"]
    assert json.loads(words[2]) == {"instances": TEXTS}


def test_the_lines_are_as_short_as_they_can_be(tmp_path):
    assert curl_line("sst2", ["a fine day"]) == (
        "curl http://127.0.0.1:8501/v1/models/sst2:predict "
        """--data '{"instances": ["a fine day"]}'"""
    )
    assert docker_run_line("/srv/savedmodels/sst2") == (
        "docker run --rm --publish 127.0.0.1:8500:8500 --publish 127.0.0.1:8501:8501 "
        "--mount type=bind,source=/srv/savedmodels/sst2,target=/models/sst2,readonly "
        "--env MODEL_NAME=sst2 tensorflow/serving:2.20.0"
    )
    assert docker_run_line("/srv/savedmodels/sst2/7") == docker_run_line("/srv/savedmodels/sst2")


def test_a_relative_folder_becomes_absolute_and_is_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = words_seen_by_the_program(docker_run_line("it's, mine/sst2"), "sh")
    mount = words[words.index("--mount") + 1]
    source = f'"source={tmp_path}/it\'s, mine/sst2"'
    assert mount == f"type=bind,{source},target=/models/sst2,readonly"


def test_readable_letters_and_escaped_control_characters():
    assert request_body(["今天🙂"]) == '{"instances": ["今天🙂"]}'
    assert request_body(["a"], "b") == '{"signature_name": "b", "instances": ["a"]}'
    assert request_body(["今\x9b"]) == '{"instances": ["\\u4eca\\u009b"]}'


def test_the_last_words_name_a_server_for_those_without_docker(tmp_path):
    folder = tmp_path / "it's mine/sst2"
    text = next_commands_text(folder / "3", tmp_path / "tensorboard", "a")
    line = text.split("Or, without Docker:  ")[1].splitlines()[0]
    assert line == preview_line(folder)
    words = words_seen_by_the_program(line.replace(sys.executable, "python"), "sh")
    assert words == ["-m", "tfllm.serving.preview", str(folder)]
