"""Repair text that was decoded wrongly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step
from tfllm.data.readers.extras import import_extra

__all__ = ["UnicodeRepair"]


@dataclass(frozen=True)
class UnicodeRepair(Step):
    r"""Repairs mojibake (`schÃ¶n` → `schön`), control characters and line ends, with ftfy.

    Text comes out in NFC. Characters that somebody may have meant stay as they are unless asked
    for: ftfy would by itself make a Chinese `，` an ASCII comma. Needs the extra `clean`.

    Attributes:
        entities: whether HTML's entities become characters, `&amp;` → `&`.
        straight_quotes: whether curly quotes become ASCII's.
        plain_width: whether full-width and half-width forms become usual ones, and ligatures
            letters.

    Reference:
        Speer, ftfy, Zenodo, 2019 (10.5281/zenodo.2591652).
    """

    name: ClassVar[str] = "unicode_repair"

    entities: bool = False
    straight_quotes: bool = False
    plain_width: bool = False

    def begin(self) -> Callable[[str], str | Removal]:
        """Set ftfy up.

        Raises:
            InputError: if it is not installed.
        """
        ftfy = import_extra("ftfy", "clean", "repairing Unicode")
        config = ftfy.TextFixerConfig(
            unescape_html=self.entities,
            uncurl_quotes=self.straight_quotes,
            fix_character_width=self.plain_width,
            fix_latin_ligatures=self.plain_width,
            explain=False,
        )

        def repair(document: str) -> str:
            return ftfy.fix_text(document, config)

        return repair
