"""The part of a tokenizer that bulk work needs, small enough to travel to another process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tokenizers

__all__ = ["FastTokenizer"]


@dataclass(frozen=True)
class FastTokenizer:
    """Hugging Face's view of a tokenizer, as text, with the ids that encoders ask for.

    Attributes:
        json: what `tokenizers` writes of it.
        fingerprint: digest of everything that decides ids.
        vocabulary_size: every id is below it.
        bos_id: starts a document, or None.
        eos_id: ends a document, or None.
        special_tokens_in_text: whether special tokens written in a text are recognised. It is no
            part of what `tokenizers` writes.
    """

    json: str
    fingerprint: str
    vocabulary_size: int
    bos_id: int | None
    eos_id: int | None
    special_tokens_in_text: bool

    @classmethod
    def of(cls, tokenizer: Any) -> FastTokenizer:
        """Take it from a `tfllm.text.Tokenizer`."""
        fast = tokenizer.fast
        taken = cls(
            json=fast.to_str(),
            fingerprint=tokenizer.fingerprint,
            vocabulary_size=tokenizer.vocabulary_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            special_tokens_in_text=not fast.encode_special_tokens,
        )
        if fast.truncation is None and fast.padding is None:
            taken.__dict__["fast"] = fast  # here it needn't be built again
        return taken

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of stored ids: `uint16` up to 65,536 of them, else `uint32`."""
        return np.dtype(np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32)

    @cached_property
    def fast(self) -> tokenizers.Tokenizer:
        """The tokenizer itself, built when it is first asked for; truncates and pads nothing."""
        return self._build()

    @cached_property
    def truncating(self) -> tokenizers.Tokenizer:
        """Another one, whose truncation its user may set without anybody else noticing."""
        return self._build()

    @cached_property
    def for_words(self) -> tokenizers.Tokenizer:
        """Another one, for words that were parted before; each is seen as after a space."""
        state = json.loads(self.json)
        steps = state["pre_tokenizer"] or {}
        for step in steps.get("pretokenizers", [steps]):
            if step.get("type") == "ByteLevel":
                step["add_prefix_space"] = True
        return self._build(json.dumps(state))

    @cached_property
    def unknown_id(self) -> int | None:
        """Stands for words that the vocabulary can't spell, or None where it spells all."""
        model = json.loads(self.json)["model"]
        if model.get("unk_id") is not None:
            return int(model["unk_id"])
        name = model.get("unk_token")
        return None if name is None else self.fast.token_to_id(name)

    def _build(self, state: str | None = None) -> tokenizers.Tokenizer:
        from tokenizers import Tokenizer

        fast = Tokenizer.from_str(state or self.json)
        fast.no_truncation()
        fast.no_padding()
        fast.encode_special_tokens = not self.special_tokens_in_text
        return fast

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what can be built again."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
