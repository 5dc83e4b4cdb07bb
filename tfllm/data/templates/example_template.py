"""What a template of whole examples can do, whatever the examples are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tfllm.data.templates.piece import Piece

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["ExampleTemplate", "Question"]


class Question(NamedTuple):
    """One place of an example where the model is to write.

    Attributes:
        prompt: what the model reads, the template applied.
        reference: what it should write, white space around it stripped.
        request: what is asked of a bundle, which applies the template itself: a text, or
            `{input: text}` where there are several inputs.
    """

    prompt: str
    reference: str
    request: str | dict[str, str]


class ExampleTemplate(ABC):
    """Turns examples into what is read and what is learnt; the same text in training and serving.

    An implementation is a frozen dataclass of small fields, see `Encoder`.
    """

    kind: ClassVar[str]
    is_conversation: ClassVar[bool] = False
    """Whether a request is the turns of a conversation so far, one a line."""

    def request_of(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Take a request's fields from one, or from an example of the training data."""
        return given

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Names of what a request to a bundle holds; `text` where it is one."""

    @abstractmethod
    def pieces(self, example: Mapping[str, Any]) -> list[Piece]:
        """Cut an example into what is read and what is learnt, in the order of the text.

        Raises:
            InputError: if the example lacks a field.
        """

    @abstractmethod
    def questions(self, example: Mapping[str, Any]) -> list[Question]:
        """Give each place of an example where the model is to write; see `pieces`."""

    @abstractmethod
    def prompt_in_graph(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Make prompts of requests.

        Args:
            inputs: name → `<string>[batch]`, those of `inputs`.

        Returns:
            `<string>[batch]`.
        """

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """Give what JSON can hold of it, `kind` included."""
