"""What a bundle's answers must be: the model's, finite, one a row, none by its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfllm.export.errors import ExportError
from tfllm.export.probes import Case

__all__ = ["Neighbours", "check_answers", "request_text"]

# Discrete answers of one signature that may turn when a row's neighbours change: a batch of other
# size is summed in another order, and a near tie between two words then falls the other way.
_NEAR_TIES = 1

# Times the gate's tolerance: other batches and widths sum in another order. A CRF over a thousand
# words moves by 1.2e-5; a mask that leaks moves an answer by far more.
_OTHER_ORDER = 10


def check_answers(case: Case, answers: Mapping[str, np.ndarray], tolerance: float) -> None:
    """Compare a bundle's answers to one request with those of the model in memory.

    Raises:
        ExportError: they differ, aren't one a row, or JSON can't carry them.
    """
    if answers.keys() != case.answers.keys():
        message = f"outputs are {sorted(answers)}, in memory {sorted(case.answers)}"
        raise _refusal(case, message)
    rows = len(next(iter(case.inputs.values())))
    for name, answer in answers.items():
        difference = _difference(answer, case.answers[name], tolerance)
        if answer.shape[:1] != (rows,):
            difference = f"has {len(answer) if answer.ndim else 0} rows for a batch of {rows}"
        difference = difference or _not_finite(answer)
        if difference:
            raise _refusal(case, f"{name!r} {difference}")


def _refusal(case: Case, message: str) -> ExportError:
    return ExportError("answers", message, case.signature, request_text(case.inputs))


def _not_finite(answer: np.ndarray) -> str:
    if answer.dtype.kind != "f" or np.all(np.isfinite(answer)):
        return ""
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(answer))[0])
    return f"at {list(index)} is {answer[index]}: that is no number, and JSON can't carry it"


def _difference(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """Say where an answer differs from the model in memory; empty where it doesn't."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return f"is {got.dtype}{list(got.shape)}, in memory {wanted.dtype}{list(wanted.shape)}"
    same = _equal(got, wanted, tolerance)
    if np.all(same):
        return ""
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"at {list(index)} is {got[index]!r}, in memory {wanted[index]!r}"


def _equal(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    if got.dtype.kind != "f":
        return np.asarray(got == wanted)
    with np.errstate(invalid="ignore"):  # inf - inf
        close = np.abs(got - wanted) <= tolerance * np.maximum(1, np.abs(wanted))
    return close & np.isfinite(wanted) | (got == wanted) | np.isnan(got) & np.isnan(wanted)


class Neighbours:
    """Remembers each row's answer and compares it with the same row's among other neighbours.

    An output may be as wide as its batch needs (entities, tokens): columns that one has more than
    the other must then all hold the same, which is padding.

    One answer a signature may turn, a label or a text, where no number of the same row moves: that
    is a near tie.

    Args:
        tolerance: the gate's; ten times as much is allowed here.
    """

    def __init__(self, tolerance: float) -> None:
        """Know no row."""
        self._tolerance = _OTHER_ORDER * tolerance
        self._seen: dict[tuple[str, bytes], dict[str, np.ndarray]] = {}
        self._turned: dict[str, int] = {}

    def check(self, case: Case, answers: Mapping[str, np.ndarray]) -> None:
        """Compare each row of an answered request with what it was answered before.

        Raises:
            ExportError: a row's answer depends on its neighbours.
        """
        for i in range(len(next(iter(case.inputs.values())))):
            request = {name: column[i : i + 1] for name, column in case.inputs.items()}
            key = (case.signature, repr([c.tolist() for c in request.values()]).encode())
            row = {name: answer[i] for name, answer in answers.items()}
            before = self._seen.setdefault(key, row)
            if before is not row:
                self._compare(case, request, before, row)

    def _compare(
        self,
        case: Case,
        request: Mapping[str, np.ndarray],
        before: Mapping[str, np.ndarray],
        now: Mapping[str, np.ndarray],
    ) -> None:
        changed = [
            name for name in now if not _same_but_padding(now[name], before[name], self._tolerance)
        ]
        if not changed:
            return
        # Where two answers are nearly as good as each other, their numbers are nearly the same.
        moved = [name for name in changed if _is_moved_number(now[name], before[name])]
        if not moved:
            self._turned[case.signature] = self._turned.get(case.signature, 0) + 1
            if self._turned[case.signature] <= _NEAR_TIES:
                return
        changed = moved or changed
        rows = len(next(iter(case.inputs.values())))
        message = (
            f"{changed[0]!r} depends on a row's neighbours: in a batch of {rows} it is "
            f"{_short(now[changed[0]])}, in another {_short(before[changed[0]])}"
        )
        raise ExportError("neighbours", message, case.signature, request_text(request))


def _is_moved_number(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether a float changed, and not only because another answer has more of them."""
    return np.asarray(one).dtype.kind == "f" and np.shape(one) == np.shape(other)


def _same_but_padding(one: np.ndarray, other: np.ndarray, tolerance: float) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape == other.shape:
        return bool(np.all(_equal(one, other, tolerance)))
    if one.ndim != other.ndim or one.shape[1:] != other.shape[1:]:
        return False
    narrow, wide = sorted((one, other), key=len)
    for sides in ((wide[: len(narrow)], wide[len(narrow) :]), _from_the_right(wide, len(narrow))):
        real, padding = sides
        if np.all(_equal(real, narrow, tolerance)) and np.all(padding == padding[:1]):
            return True
    return False


def _from_the_right(wide: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    split = len(wide) - width
    return wide[split:], wide[:split]


def _short(value: np.ndarray) -> str:
    text = repr(np.asarray(value).tolist())
    return text if len(text) <= 80 else text[:77] + "..."


def request_text(inputs: Mapping[str, np.ndarray]) -> str:
    """Write a request in one short line."""
    text = ", ".join(f"{name}={_listed(array)}" for name, array in inputs.items())
    return text if len(text) <= 300 else text[:297] + "..."


def _listed(array: np.ndarray) -> str:
    return repr([item[:60] if isinstance(item, bytes) else item for item in array.tolist()])
