"""Pictures of what a model predicts, as arrays for TensorBoard.

Each function gives `<uint8>[1, height, width, 3]`. Nothing is shown on a screen, and matplotlib's
global state is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "calibration",
    "confusion_matrix",
    "entity_confusion",
    "precision_recall",
    "scatter",
    "tag_confusion",
]

_DOTS_PER_INCH = 100
# Beyond so many classes counts can't be read, and curves can't be told apart.
_COUNTED_CLASSES = 30
_CURVES = 10
_POINTS = 5_000

_Tags = Sequence[Sequence[str]]


def confusion_matrix(
    targets: np.ndarray, predicted: np.ndarray, labels: Sequence[str]
) -> np.ndarray:
    """Draw which class is taken for which.

    A row is a true class, its colours are shares of that row; numbers are counts, left out beyond
    30 classes.

    Args:
        targets: `<int>[rows]`.
        predicted: `<int>[rows]`.
        labels: names of the classes, in the order of their numbers.
    """
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (targets, predicted), 1)
    return _matrix(counts, labels, labels)


def entity_confusion(true_tags: _Tags, predicted_tags: _Tags) -> np.ndarray:
    """Draw which type of entity is taken for which, where the words are the same.

    The last column counts true entities whose words are none's, the last row predicted ones.

    Args:
        true_tags: IOB2 tags of each sentence's words.
        predicted_tags: as many.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for true, predicted in zip(true_tags, predicted_tags, strict=True):
        there, said = _spans(true), _spans(predicted)
        pairs.update((kind, said.get(span, "")) for span, kind in there.items())
        pairs.update(("", kind) for span, kind in said.items() if span not in there)
    kinds = sorted({kind for pair in pairs for kind in pair if kind})
    names = [*kinds, ""]
    counts = np.array([[pairs[true, said] for said in names] for true in names], np.int64)
    return _matrix(counts, [*kinds, "(spurious)"], [*kinds, "(missed)"])


def tag_confusion(true_tags: _Tags, predicted_tags: _Tags) -> np.ndarray:
    """Draw which tag is taken for which.

    Args:
        true_tags: tags of each sentence's words.
        predicted_tags: as many.
    """
    sides = [[tag for tags in side for tag in tags] for side in (true_tags, predicted_tags)]
    labels = sorted({*sides[0], *sides[1]})
    number = {label: i for i, label in enumerate(labels)}
    true, predicted = (np.array([number[tag] for tag in side], np.int64) for side in sides)
    return confusion_matrix(true, predicted, labels)


def precision_recall(targets: np.ndarray, scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Draw precision over recall of each class against all others, with average precision.

    Of two classes that exclude each other only the second is drawn; of more than ten, the ten that
    most rows have. A class that no row has gets no curve.

    Args:
        targets: `<int>[rows]` classes, or `<0 or 1>[rows, classes]`.
        scores: `<float>[rows, classes]`.
        labels: names of the classes, in the order of their numbers.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    figure, axes = _axes(6.0, 5.0)
    shown = _legible(labels)
    for index, is_right in _curves(np.asarray(targets), len(labels)):
        precision, recall, _ = precision_recall_curve(is_right, scores[:, index])
        mean = average_precision_score(is_right, scores[:, index])
        axes.plot(recall, precision, label=f"{shown[index]} ({mean:.3f})", linewidth=1.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(title="average precision", loc="lower left", fontsize=8)
    return _drawn(figure)


def calibration(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Draw how often the likeliest class is right, over how likely it is said to be.

    Ten ranges of probability; a well calibrated model follows the diagonal. The title gives the
    expected calibration error, the mean gap by rows.

    Args:
        targets: `<int>[rows]`.
        scores: `<float>[rows, classes]`, probabilities.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv:1706.04599.
    """
    figure, axes = _axes(5.0, 5.0)
    said = scores.max(axis=1) if len(scores) else np.zeros(0)
    right = (scores.argmax(axis=1) == targets) if len(scores) else np.zeros(0)
    bins = np.minimum((said * 10).astype(int), 9)
    rows = np.bincount(bins, minlength=10)
    mean_said = np.bincount(bins, said, 10) / np.maximum(rows, 1)
    mean_right = np.bincount(bins, right, 10) / np.maximum(rows, 1)
    error = float(np.sum(rows * np.abs(mean_said - mean_right)) / max(1, rows.sum()))
    axes.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
    axes.bar(np.arange(10) / 10 + 0.05, mean_right, width=0.09, alpha=0.4)
    axes.plot(mean_said[rows > 0], mean_right[rows > 0], marker="o")
    axes.set(xlabel="probability", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.01))
    axes.set_title(f"expected calibration error {error:.3f}", fontsize=10)
    return _drawn(figure)


def scatter(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Draw predicted numbers over true ones; of more than 5,000 rows, as many spread evenly.

    Args:
        targets: `<float>[rows]`.
        scores: `<float>[rows]`.
    """
    finite = np.isfinite(targets) & np.isfinite(scores)
    chosen = np.flatnonzero(finite)
    if len(chosen) > _POINTS:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _POINTS).astype(int)]
    figure, axes = _axes(5.0, 5.0)
    axes.scatter(targets[chosen], scores[chosen], s=8, alpha=0.4, edgecolors="none")
    if len(chosen):
        ends = [float(targets[chosen].min()), float(targets[chosen].max())]
        axes.plot(ends, ends, color="gray", linestyle="--", linewidth=1)
    axes.set(xlabel="true", ylabel="predicted")
    axes.grid(alpha=0.3)
    return _drawn(figure)


def _spans(tags: Sequence[str]) -> dict[tuple[int, int], str]:
    """Type of each entity by its words, first and one past the last."""
    found = {}
    for start, tag in enumerate(tags):
        if tag.startswith("B-"):
            end = start + 1
            while end < len(tags) and tags[end] == f"I-{tag[2:]}":
                end += 1
            found[start, end] = tag[2:]
    return found


def _curves(targets: np.ndarray, classes: int) -> list[tuple[int, np.ndarray]]:
    """Number of each class that is drawn, and which rows have it."""
    exclusive = targets.ndim == 1
    rows_of = np.arange(classes) == targets[:, None] if exclusive else targets.astype(bool)
    count = rows_of.sum(axis=0)
    wanted = range(1, 2) if exclusive and classes == 2 else range(classes)
    drawn = sorted((i for i in wanted if count[i]), key=lambda i: -count[i])[:_CURVES]
    return [(i, rows_of[:, i]) for i in sorted(drawn)]


def _matrix(counts: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    size = min(3.0 + 0.45 * len(rows), 17.0)
    figure, axes = _axes(size + 0.5, size)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(image, ax=axes, fraction=0.04, label="share of the row")
    font = 9 if len(rows) <= _COUNTED_CLASSES else 5
    axes.set_xticks(range(len(columns)), _legible(columns), rotation=45, ha="right", fontsize=font)
    axes.set_yticks(range(len(rows)), _legible(rows), fontsize=font)
    axes.set(xlabel="predicted", ylabel="true")
    if len(rows) <= _COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    return _drawn(figure)


def _legible(names: Sequence[str], characters: int = 24) -> list[str]:
    """Shorten names, and give those their numbers that the default font can't write."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    shown = []
    for number, name in enumerate(names):
        if any(ord(character) not in known for character in name):
            name = f"#{number}"
        if len(name) > characters:
            name = name[: characters - 1] + "…"
        # A pair of dollars would be read as a formula.
        shown.append(name.replace("$", r"\$"))
    return shown


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Give an empty figure, sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _drawn(figure: Figure) -> np.ndarray:
    canvas = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[None, :, :, :3].copy()  # type: ignore[attr-defined]
