"""Training a byte-level BPE vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tfllm.errors import InputError
from tfllm.text.byte_level_bpe import ByteLevelBPE

__all__ = ["train_byte_level_bpe"]

_END_OF_TEXT = "<|endoftext|>"


def train_byte_level_bpe(
    texts: Iterable[str],
    vocabulary_size: int,
    *,
    special_tokens: Sequence[str] = (_END_OF_TEXT,),
    minimum_frequency: int = 2,
    special_tokens_in_text: bool = True,
) -> ByteLevelBPE:
    """Learn a GPT-2-like vocabulary from texts.

    Special tokens get the first ids, the 256 bytes the next ones, then come the merges. The first
    special token starts and ends documents (`bos_id`, `eos_id`). The same texts give the same
    vocabulary. Texts are read once, one after another, so a generator over files will do.

    Args:
        texts: what to learn from.
        vocabulary_size: number of ids at most; fewer if the texts have no more pairs to merge.
        special_tokens: tokens that texts don't consist of.
        minimum_frequency: occurrences that a pair must have to be merged.
        special_tokens_in_text: see `ByteLevelBPE`.

    Raises:
        InputError: `vocabulary_size` has no room for the bytes and the special tokens, a text
            isn't a `str`, or there are no texts.
    """
    least = 256 + len(special_tokens)
    if vocabulary_size < least:
        raise InputError(
            f"vocabulary_size={vocabulary_size} is too small: 256 bytes and"
            f" {len(special_tokens)} special tokens take {least}. Give more."
        )
    if isinstance(texts, str):
        raise InputError("texts is one string; give an iterable of them, such as a list.")
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=minimum_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    checked = _Checked(texts)
    try:
        fast.train_from_iterator(iter(checked), trainer)
    finally:
        # `tokenizers` would report what the iterator raised as an error of its own.
        if checked.error is not None:
            raise checked.error
    if not checked.count:
        raise InputError("There are no texts to learn a vocabulary from: the iterable is empty.")
    roles = {}
    if special_tokens:
        roles = dict.fromkeys(("bos_token", "eos_token", "unk_token"), special_tokens[0])
    return ByteLevelBPE(fast, special_roles=roles, special_tokens_in_text=special_tokens_in_text)


class _Checked:
    """An iterable of `str` that remembers what went wrong in it."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.error: BaseException | None = None
        self.count = 0
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._texts:
                if not isinstance(text, str):
                    raise InputError(
                        f"Text number {self.count} is not a str. Received: {type(text).__name__}."
                    )
                self.count += 1
                yield text
        except BaseException as error:
            self.error = error
            raise
