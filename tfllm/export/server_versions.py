"""Which releases of TensorFlow Serving have the ops that a bundle holds."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["server_versions"]

# Servers before 2.20 link TF Text 2.12, which lacks these.
_SINCE_2_20 = {"TFText>Utf8Binarize", "TFText>RoundRobinTrim", "TFText>RoundRobinGenerateMasks"}


def server_versions(ops: Iterable[str]) -> list[tuple[str, str]]:
    """Give lines of a table: a range of releases, and what they make of the bundle.

    Args:
        ops: names of the bundle's ops.
    """
    lacking = sorted(set(ops) & _SINCE_2_20)
    older = (
        f"no: they lack {', '.join(lacking)}"
        if lacking
        else "they have the ops, but no TensorFlow promises to read a newer one's graph: try first"
    )
    return [
        ("2.20", "yes: the gate ran this bundle on the same TensorFlow and TF Text"),
        ("2.16 to 2.19", older),
        ("2.15 and before", "no: not looked into"),
        ("after 2.20", "expected: TensorFlow promises to read an older one's graph; not tried"),
    ]
