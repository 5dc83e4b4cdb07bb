"""Units of text in any script."""

from __future__ import annotations

import re

__all__ = ["is_unspaced", "units"]

# Thai to Lao, Burmese, Khmer, Kana, Han: scripts that write no spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_LETTER_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def units(text: str) -> list[str]:
    """Cut text at white space, and scripts without spaces into characters.

    Example:
        `"My 酒店, ok"` → `["My", "酒", "店", ",", "ok"]`.
    """
    return _UNIT.findall(text)


def is_unspaced(unit: str) -> bool:
    """Whether a unit is a character of a script without spaces."""
    return _LETTER_UNSPACED.match(unit) is not None
