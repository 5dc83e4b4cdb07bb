"""How many requests each model has answered, as Prometheus reads it."""

from __future__ import annotations

import collections

__all__ = ["RequestCounts"]


class RequestCounts:
    """Requests by model and status code."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._counts: collections.Counter[tuple[str, str]] = collections.Counter()

    def add(self, model: str, code: str) -> None:
        """Count one request to a model that is served; other names would grow without end."""
        self._counts[model, code] += 1

    def text(self) -> str:
        """Write the counts in Prometheus' text format, under TF Serving's name for them."""
        name = ":tensorflow:serving:request_count"
        lines = [f"# TYPE {name} counter"]
        for (model, code), count in sorted(self._counts.items()):
            quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'{name}{{model_name="{quoted}",status="{code}"}} {count}')
        return "\n".join(lines) + "\n"
