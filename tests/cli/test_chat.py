"""A chat with somebody who does not always answer, and what a prompt consists of."""

import io

import pytest

from tfllm.cli import chat, unescaped
from tfllm.cli.prompt_fields import prompt_fields
from tfllm.errors import InputError


class Scripted:
    """Answers what was agreed upon, and keeps what it was asked."""

    def __init__(self, answers, *, remembers=True):
        self.answers = dict(answers)
        self.remembers = remembers
        self.asked = []

    def prompts(self, given):
        if "long" in given[0]:
            raise InputError("the prompt is too long")
        return list(given)

    def stream(self, prompt):
        self.asked.append(prompt)
        yield from self.answers[prompt.splitlines()[-1]]


def typed(monkeypatch, *lines):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def stopped():
    yield "half an"
    raise KeyboardInterrupt


def stopped_at_once():
    raise KeyboardInterrupt
    yield


ANSWERS = {"hi": ["hel", "lo ", "\n you"], "ho": [], "who?": ["me"], "yes": [" \n"]}


def test_a_turn_without_an_answer_is_taken_back(monkeypatch, capsys):
    writer = Scripted(ANSWERS | {"stop": stopped_at_once()})
    typed(monkeypatch, "ho", "hi", "yes", "long", "stop", "who?")
    chat(writer)
    assert writer.asked[1:] == ["hi", "hi\nhello you\nyes", "hi\nhello you\nstop"] + [
        "hi\nhello you\nwho?"
    ]
    shown = capsys.readouterr()
    assert shown.err.count("your turn is taken back") == 3
    assert "error: the prompt is too long" in shown.err


def test_half_an_answer_is_one_and_an_empty_line_begins_anew(monkeypatch, capsys):
    writer = Scripted(ANSWERS | {"stop": stopped()})
    typed(monkeypatch, "stop", "who?", "", "hi")
    chat(writer)
    assert writer.asked == ["stop", "stop\nhalf an\nwho?", "hi"]
    assert "An empty line begins anew" in capsys.readouterr().err


def test_who_remembers_nothing_is_asked_each_line_alone(monkeypatch, capsys):
    writer = Scripted(ANSWERS, remembers=False)
    typed(monkeypatch, "hi", "ho", "who?")
    chat(writer)
    assert writer.asked == ["hi", "ho", "who?"]
    assert "taken back" not in capsys.readouterr().err


def test_the_fields_of_a_prompt():
    assert prompt_fields("a", ("text",)) == {"text": "a"}
    assert prompt_fields({"b": "1", "a": "2", "c": 3}, ("a", "b")) == {"a": "2", "b": "1"}
    with pytest.raises(InputError, match="a prompt has a, b here, and this has no 'a'"):
        prompt_fields("x", ("a", "b"))
    with pytest.raises(InputError, match="'a' must be a text. Received: 3"):
        prompt_fields({"a": 3}, ("a",))


def test_what_a_shell_leaves():
    assert unescaped(r"a\n\t\\n\x") == "a\n\t\\n\\x"
