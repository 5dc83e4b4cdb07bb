"""Tags of spans in IOB1, IOB2 and BIOES, all brought to IOB2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["TagScheme", "check_tag", "to_iob2"]

TagScheme = Literal["iob1", "iob2", "bioes"]
_PREFIXES = {"iob1": "BI", "iob2": "BI", "bioes": "BIES"}
_BEGINS = frozenset("BS")
_ENDS = frozenset("ES")


def to_iob2(tags: Sequence[str], scheme: TagScheme) -> list[str]:
    """Rewrite a sentence's tags as IOB2: the first of each span `B-`, the others `I-`.

    Any order of tags is read, by one rule, conlleval's and seqeval's (its default mode): a span
    begins at a tag `B` or `S`, and at an `I` or `E` that has nothing to go on with: after `O`,
    after a tag of another type, after an `E` or `S`, at the sentence's start. So spans counted on
    the result are the spans that those tools count on the tags as they were.

    Args:
        tags: `O`, or a prefix of the scheme and a type, `B-PER`; a prefix alone has the type "".
        scheme: which prefixes there are. IOB1 differs from IOB2 only in where it writes a `B`,
            and the rule reads both.

    Returns:
        as many tags.

    Raises:
        ValueError: if a tag is none of the scheme.

    Example:
        IOB1 `I-PER I-PER B-PER O I-LOC` → `B-PER I-PER B-PER O B-LOC`.

    Reference:
        Ramshaw and Marcus, Text Chunking using Transformation-Based Learning, 1995
        (cmp-lg/9505040);
        Tjong Kim Sang and De Meulder, CoNLL-2003 (cs/0306050).
    """
    rewritten = []
    last_prefix, last_kind = "O", ""
    for tag in tags:
        check_tag(tag, scheme)
        prefix, _, kind = tag.partition("-")
        if prefix == "O":
            rewritten.append("O")
        else:
            goes_on = last_prefix != "O" and last_prefix not in _ENDS and last_kind == kind
            begins = prefix in _BEGINS or not goes_on
            rewritten.append(("B" if begins else "I") + tag[1:])
        last_prefix, last_kind = prefix, kind
    return rewritten


def check_tag(tag: str, scheme: TagScheme) -> None:
    """See that a tag is one of the scheme.

    Raises:
        ValueError: with the reason, if not.
    """
    prefix, dash, kind = tag.partition("-")
    if tag != "O" and (prefix not in tuple(_PREFIXES[scheme]) or (dash and not kind)):
        allowed = ", ".join(f"{p}-TYPE" for p in _PREFIXES[scheme])
        raise ValueError(f"has the tag {ascii(tag)}, which {scheme} has not: O, {allowed}")
