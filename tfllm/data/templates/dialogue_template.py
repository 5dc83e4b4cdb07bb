"""Examples that are the turns of a dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tfllm.data.templates.example_template import ExampleTemplate, Question
from tfllm.data.templates.piece import Piece
from tfllm.data.templates.template import Template
from tfllm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["DialogueTemplate"]

_CHOICES = ("all", "first", "last")
# What TensorFlow strips: it leaves other scripts' spaces.
_SPACES = " \t\n\r\v\f"


@dataclass(frozen=True)
class DialogueTemplate(ExampleTemplate):
    r"""Turns of two speakers in a row, of which those of one are learnt, or all.

    Examples are `{"turns": [str, …], "speakers": [str, …]}`. What stands in the turn's template
    before the text, spaces at its end left away, tells the model that it is to speak; the spaces
    and the text are learnt, and after them the end token is to be predicted. The row itself goes
    on with the rest of the template, so that what is read of former turns is plain text, in
    training as in serving, and generation stops at the end token.

    A request to a bundle is the turns so far, one a line, without names. If one speaker alone was
    learnt, that one replies, and turns are given to the two by turns, back from the last line;
    else the first line is the first speaker's.

    Attributes:
        turn: of the fields `text`, once, and `speaker`, if at all before it.
        speaker: whose turns are learnt: `all`, those of who speaks `first` or `last` in the
            dialogue, or a name.
        speakers: names of the two.

    Raises:
        InputError: if the template or a name can't be used so.

    Example:
        `{speaker}: {text}\n` reads "A: Hi\nB:", learns " Hello" and the end, and goes on with
        "\nA: …".
    """

    kind: ClassVar[str] = "dialogue"
    is_conversation: ClassVar[bool] = True

    turn: Template
    speaker: str = "last"
    speakers: tuple[str, str] = ("A", "B")

    def __post_init__(self) -> None:
        """Check the template and the names."""
        names = [name for _, name in self.turn.parts if name is not None]
        if names.count("text") != 1 or set(names) - {"text", "speaker"} or names[-1] != "text":
            raise InputError(
                f"the turn template {self.turn.text!r} must hold {{text}} once, and may hold "
                "{speaker} before it, as '{speaker}: {text}\\n' does"
            )
        if not "".join(literal for literal, _ in self.turn.parts).strip(" "):
            raise InputError(
                f"the turn template {self.turn.text!r} has no text of its own, and the turns would "
                "run together. End it with a new line, as '{text}\\n' does"
            )
        two = len(self.speakers) == 2 and self.speakers[0] != self.speakers[1]
        if not two or not all(name.strip() for name in self.speakers):
            raise InputError(
                "the speakers (--speakers) must be two names, none blank. Received: "
                f"{', '.join(map(repr, self.speakers))}"
            )
        if self.speaker not in (*_CHOICES, *self.speakers):
            known = ", ".join((*_CHOICES, *self.speakers))
            raise InputError(
                f"the speaker to learn (--speaker) must be one of {known}. Received: "
                f"{self.speaker!r}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DialogueTemplate:
        """Make one of what `to_config` gave."""
        first, second = config["speakers"]
        return cls(Template.from_config(config["turn"]), config["speaker"], (first, second))

    def to_config(self) -> dict[str, Any]:
        """Give what JSON can hold of it."""
        whose = {"speaker": self.speaker, "speakers": list(self.speakers)}
        return {"kind": self.kind, "turn": self.turn.to_config(), **whose}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The turns so far."""
        return ("text",)

    def pieces(self, example: Mapping[str, Any]) -> list[Piece]:
        """Cut a dialogue at the turns that are learnt, what is read between them in one piece."""
        turns, names = _turns_of(example)
        learner = self._learner(names)
        pieces, read = [], ""
        for text, name in zip(turns, names, strict=True):
            read += self._cue(name)
            if learner in (None, name):
                pieces += [Piece(read, learnt=False), Piece(self._lead + text, learnt=True)]
                read = self._tail
            else:
                read += self._lead + text + self._tail
        return pieces

    def questions(self, example: Mapping[str, Any]) -> list[Question]:
        """Ask for the last turn that is learnt, if anything stands before it.

        The prompt is what a bundle makes of the request: where the names don't follow its rule, it
        differs from the row of the training in them.
        """
        turns, names = _turns_of(example)
        learner = self._learner(names)
        learnt = [i for i, name in enumerate(names) if learner in (None, name)]
        if not learnt or not learnt[-1]:
            return []
        last = learnt[-1]
        request = "\n".join(turns[:last])
        return [Question(self._prompt_of(request), turns[last].strip(), request)]

    def _prompt_of(self, request: str) -> str:
        """Make a prompt of the turns so far, as `prompt_in_graph` does."""
        lines = [line.strip(_SPACES) for line in request.split("\n")]
        lines = [line for line in lines if line]
        replies = len(lines) % 2
        if self.speaker not in ("all", "last"):
            replies = self._number_of_learner()
        cues = [self._cue(name) for name in self.speakers]
        turns = [
            cues[(replies + back) % 2] + self._lead + line + self._tail
            for back, line in zip(range(len(lines), 0, -1), lines, strict=True)
        ]
        return "".join(turns) + cues[replies]

    def prompt_in_graph(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Fill in the turns and tell the model that it is to speak; see the class."""
        import tensorflow as tf

        lines = tf.strings.strip(tf.strings.split(inputs["text"], "\n"))
        lines = tf.ragged.boolean_mask(lines, lines != "")
        count = lines.row_lengths()
        replies = count % 2
        if self.speaker not in ("all", "last"):
            replies = tf.fill(tf.shape(count), self._number_of_learner())
            replies = tf.cast(replies, tf.int64)
        cues = tf.constant([self._cue(name) for name in self.speakers])
        back = count[:, None] - tf.ragged.range(count)
        speaks = (replies[:, None] + back) % 2
        turns = tf.ragged.map_flat_values(
            lambda cue, line: tf.strings.join([cue, self._lead, line, self._tail]),
            tf.gather(cues, speaks),
            lines,
        )
        return tf.strings.reduce_join(turns, axis=1) + tf.gather(cues, replies)

    def _learner(self, names: Sequence[str]) -> str | None:
        """Who is learnt; None for everybody."""
        if self.speaker == "all" or not names:
            return None
        return {"first": names[0], "last": names[-1]}.get(self.speaker, self.speaker)

    def _number_of_learner(self) -> int:
        return 0 if self.speaker == "first" else self.speakers.index(self.speaker)

    def _cue(self, name: str) -> str:
        before = ((literal, field) for literal, field in self.turn.parts)
        filled = ""
        for literal, field in before:
            filled += literal
            if field != "speaker":
                break
            filled += name
        return filled.rstrip(" ")

    @property
    def _lead(self) -> str:
        """Spaces before the text, which belong to its first word."""
        before = next(literal for literal, field in self.turn.parts if field == "text")
        return before[len(before.rstrip(" ")) :]

    @property
    def _tail(self) -> str:
        literal, field = self.turn.parts[-1]
        return literal if field is None else ""


def _turns_of(example: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    turns, names = example.get("turns"), example.get("speakers")
    if not isinstance(turns, list) or not isinstance(names, list) or len(turns) != len(names):
        raise InputError(
            "an example must have as many speakers as turns, two lists of texts. Its fields: "
            f"{', '.join(example)}"
        )
    return turns, names
