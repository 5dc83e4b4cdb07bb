"""How many numbers a model learns, counted from its sizes."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from tfllm.errors import InputError
from tfllm.planning.model_sizes import ModelSizes

__all__ = ["Parameters", "Task", "check_task", "count_parameters", "projection_sizes"]

Task = Literal["causal_lm", "masked_lm", "text_classifier", "token_classifier", "question_answerer"]

_NO_MASKED = ("gpt2", "xlnet")


class Parameters(NamedTuple):
    """Numbers of a model by where they are.

    Attributes:
        embeddings: tables of words, positions and token types, what normalizes and widens them.
        words: of those, the table of words.
        blocks: all blocks that have weights of their own, and the norm after the last.
        block: of those, one block.
        head: what turns states into logits, a tied table not counted again.
    """

    embeddings: int
    words: int
    blocks: int
    block: int
    head: int

    @property
    def total(self) -> int:
        """What Keras's `count_params` says of the model."""
        return self.embeddings + self.blocks + self.head


def check_task(sizes: ModelSizes, task: Task, source: str) -> None:
    """See that a family can do a task.

    Args:
        sizes: of the model.
        task: what it is trained for.
        source: where the sizes came from, for messages.

    Raises:
        InputError: if not.
    """
    if task == "causal_lm" and sizes.family != "gpt2":
        raise InputError(
            f"{source} is of the type {sizes.family!r}, and --task causal_lm needs 'gpt2'. Give "
            f"another model, or one of --task {' '.join(get_args(Task)[1:])}"
        )
    if task == "masked_lm" and sizes.family in _NO_MASKED:
        raise InputError(
            f"{source} is of the type {sizes.family!r}, which --task masked_lm does not train. "
            "Give a BERT or one of its kin, or another --task"
        )


def count_parameters(sizes: ModelSizes, task: Task, labels: int = 2) -> Parameters:
    """Count a model's parameters as it is built here, the head for the task included.

    Args:
        sizes: of the backbone.
        task: decides the head, and whether the backbone keeps its pooler.
        labels: classes of a classifier.

    Example:
        >>> sizes = ModelSizes.from_config({"model_type": "gpt2"}, "GPT-2")
        >>> count_parameters(sizes, "causal_lm").total
        124439808
    """
    block = _xlnet_block(sizes) if sizes.family == "xlnet" else _block(sizes)
    last_norm = 2 * sizes.hidden_dim if sizes.family == "gpt2" else 0
    return Parameters(
        embeddings=_embeddings(sizes),
        words=sizes.vocabulary_size * sizes.embedding_dim,
        blocks=sizes.blocks_of_its_own * block + last_norm,
        block=block,
        head=_head(sizes, task, labels),
    )


def projection_sizes(sizes: ModelSizes) -> list[tuple[int, int]]:
    """List a block's projections that adapters may stand in for, width in and width out."""
    width, inner = sizes.hidden_dim, sizes.inner_dim
    feed_forward = [(width, inner), (inner, width)]
    if sizes.family == "xlnet":
        return feed_forward
    if sizes.family == "gpt2":
        return [(width, 3 * width), (width, width), *feed_forward]
    return [(width, width)] * 4 + feed_forward


def _block(sizes: ModelSizes) -> int:
    projections = sum(_dense(*pair) for pair in projection_sizes(sizes))
    return projections + 4 * sizes.hidden_dim  # two norms


def _xlnet_block(sizes: ModelSizes) -> int:
    width = sizes.hidden_dim
    attention = 5 * width * width  # queries, keys, values, distances, and back
    biases = 5 * width  # of content, position and text, and two embeddings of texts
    feed_forward = sum(_dense(*pair) for pair in projection_sizes(sizes))
    return attention + biases + feed_forward + 4 * width


def _embeddings(sizes: ModelSizes) -> int:
    words, dim = sizes.vocabulary_size, sizes.embedding_dim
    if sizes.family == "xlnet":
        return words * dim + dim  # and the embedding of what is to be predicted
    tables = (words + sizes.position_rows + sizes.token_types) * dim
    if sizes.family == "gpt2":
        return tables
    return tables + 2 * dim + _widening(sizes)


def _widening(sizes: ModelSizes) -> int:
    # ALBERT's is there even where nothing gets wider.
    needed = sizes.family == "albert" or sizes.embedding_dim != sizes.hidden_dim
    return _dense(sizes.embedding_dim, sizes.hidden_dim) if needed else 0


def _head(sizes: ModelSizes, task: Task, labels: int) -> int:
    width, words, dim = sizes.hidden_dim, sizes.vocabulary_size, sizes.embedding_dim
    untied = 0 if sizes.tied else words * dim
    if task == "causal_lm":
        return untied
    if task == "masked_lm":
        return _dense(width, dim) + 2 * dim + words + untied
    if task == "question_answerer":
        return _dense(width, 2)
    if task == "token_classifier":
        return _dense(width, labels)
    if sizes.family == "gpt2":
        return width * labels
    # The hidden layer is the backbone's pooler or the head's own; the other tasks have none.
    return _dense(width, width) + _dense(width, labels)


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
