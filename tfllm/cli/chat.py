"""A conversation in the terminal."""

from __future__ import annotations

import contextlib
import sys

from tfllm.cli.show_pieces import show_pieces
from tfllm.cli.writer import Writer
from tfllm.errors import InputError

__all__ = ["chat"]


def chat(writer: Writer) -> None:
    """Answer what a person types, until Ctrl-D.

    A turn that gets no answer is taken back, or the two speakers would change places.
    """
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets the arrow keys work
    anew = " An empty line begins anew." if writer.remembers else ""
    _say(f"Type a text. Ctrl-C ends an answer, Ctrl-D the chat.{anew}")
    turns: list[str] = []
    while True:
        try:
            typed = input("> ")
        except EOFError:
            print()
            return
        if writer.remembers and not typed.strip():
            turns = []
            continue
        answer = _answer(writer, [*turns, typed] if writer.remembers else [typed])
        if answer:
            turns += [typed, answer]


def _answer(writer: Writer, turns: list[str]) -> str:
    """Show what follows the turns, and give it in one line; empty where nothing does."""
    try:
        [prompt] = writer.prompts(["\n".join(turns)])
        answer = " ".join(show_pieces(writer.stream(prompt)).split())
    except InputError as error:
        _say(f"error: {error}")
        return ""
    if not answer and writer.remembers:
        _say("(No answer: your turn is taken back.)")
    return answer


def _say(line: str) -> None:
    print(line, file=sys.stderr)
