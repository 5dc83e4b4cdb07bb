"""A pipeline of cleaning steps that counts what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.step import Step

__all__ = ["Cleaner"]

_EXAMPLES = 3
_SHOWN_CHARACTERS = 160
_SHOWN_BEFORE_CHANGE = 40


@dataclass
class _Count:
    """What a step has done in a pass."""

    seen: int = 0
    changed: int = 0
    removed: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, before: str, after: str | Removal) -> None:
        self.seen += 1
        if isinstance(after, Removal):
            self.removed += 1
            self._keep({"removed": before[:_SHOWN_CHARACTERS], "reason": after.reason})
        elif after != before:
            self.changed += 1
            if len(self.examples) < _EXAMPLES:
                part = _around_change(before, after)
                self._keep({"before": before[part], "after": after[part]})

    def _keep(self, example: dict[str, str]) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


class Cleaner:
    """Runs documents through steps, in order, one document at a time.

    Streaming, deterministic and in the documents' order: what is left of a corpus follows from
    the corpus and the steps alone. Steps that look for duplicates keep the first of each kind.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        """Name the steps.

        Args:
            steps: later ones see what earlier ones left. Cheap ones first; repair before all
                that compares texts.
        """
        self.steps = tuple(steps)
        self._names = _names(self.steps)
        self._counts: dict[str, _Count] = {name: _Count() for name in self._names}

    def clean(self, documents: Iterable[str]) -> Iterator[str]:
        """Yield what is left of the documents; a step that leaves white space alone removes.

        Each pass begins anew: it remembers no documents and no counts of others.
        """
        judges = [step.begin() for step in self.steps]
        counts = [_Count() for _ in judges]
        self._counts = dict(zip(self._names, counts, strict=True))
        for document in documents:
            kept = _judge(document, judges, counts)
            if kept is not None:
                yield kept

    def report(self) -> dict[str, dict[str, Any]]:
        """Say what each step did in the pass that was begun last.

        Returns:
            name → `{"seen": int, "changed": int, "removed": int, "examples": […]}`, with up to
            three examples, each `{"removed", "reason"}` or `{"before", "after"}`, cut to some
            hundred characters.
        """
        return {
            name: {
                "seen": count.seen,
                "changed": count.changed,
                "removed": count.removed,
                "examples": list(count.examples),
            }
            for name, count in self._counts.items()
        }

    def removed(self) -> dict[str, int]:
        """Count what each step removed in the pass that was begun last: `removed_NAME` → number."""
        return {
            f"removed_{name.replace('-', '_')}": count.removed
            for name, count in self._counts.items()
        }

    def text(self, *, examples: bool = False) -> str:
        """Say to a person what the pass that was begun last did.

        Args:
            examples: whether to show some of what each step removed or changed.
        """
        lines = []
        for name, found in self.report().items():
            counts = f"changed {found['changed']:,}, removed {found['removed']:,}"
            lines.append(f"  {name}: {counts} of {found['seen']:,} documents")
            if examples:
                lines += [f"      {_shown(example)}" for example in found["examples"]]
        return "\n".join(["Cleaning:", *lines])


def _shown(example: dict[str, str]) -> str:
    if "removed" in example:
        return f"{example['reason']}: {example['removed']!r}"
    return f"{example['before']!r} → {example['after']!r}"


def _judge(
    document: str, judges: list[Callable[[str], str | Removal]], counts: list[_Count]
) -> str | None:
    for judge, count in zip(judges, counts, strict=True):
        after = judge(document)
        if isinstance(after, str) and not after.strip():
            after = Removal("nothing is left of it")
        count.add(document, after)
        if isinstance(after, Removal):
            return None
        document = after
    return document


def _names(steps: Sequence[Step]) -> list[str]:
    names: list[str] = []
    for step in steps:
        twins = sum(name.split("-")[0] == step.name for name in names)
        names.append(f"{step.name}-{twins + 1}" if twins else step.name)
    return names


def _around_change(before: str, after: str) -> slice:
    same = 0
    for a, b in zip(before, after, strict=False):
        if a != b:
            break
        same += 1
    start = max(0, same - _SHOWN_BEFORE_CHANGE)
    return slice(start, start + _SHOWN_CHARACTERS)
