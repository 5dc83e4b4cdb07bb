"""What a person is shown of a fresh bundle: answers beside the truth, and how to go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfllm.serving.commands import (
    curl_line,
    docker_run_line,
    preview_line,
    tensorboard_line,
)
from tfllm.serving.fresh import predict_in_fresh_process

__all__ = [
    "answers_text",
    "completions_text",
    "next_commands_text",
    "serve_commands_text",
    "trial_text",
]

_PROMPT_CHARACTERS = 100
_TRUTH_CHARACTERS = 80
_ROW_CHARACTERS = 160


def completions_text(bundle: Path, texts: Sequence[tuple[str, str]]) -> str:
    """Ask a bundle in a fresh process to continue texts, and lay the replies beside the truth.

    Args:
        bundle: one version's folder; its default signature takes and gives text.
        texts: pairs of a prompt and how it really goes on.

    Raises:
        SessionError: if the bundle can't be loaded or doesn't answer.
    """
    replies = predict_in_fresh_process(bundle, [prompt for prompt, _ in texts])
    lines = [f"Unseen texts, continued by {bundle} in a fresh process:"]
    for (prompt, truth), reply in zip(texts, replies, strict=True):
        shown = _one_line(truth)[: max(_TRUTH_CHARACTERS, len(reply))]
        lines += [
            "",
            f"  Prompt:    … {_one_line(prompt)[-_PROMPT_CHARACTERS:]}",
            f"  Bundle:    {_one_line(reply)}",
            f"  True text: {shown} …",
        ]
    return "\n".join(lines)


def answers_text(
    bundle: Path, instances: Sequence[Any], truths: Sequence[str], signature: str | None = None
) -> str:
    """Ask a bundle in a fresh process, and lay its answers beside the truth.

    Args:
        bundle: one version's folder.
        instances: rows of one request: texts, or `{input: text}`.
        truths: what is right for each, in words.
        signature: which to ask; None for the default one.

    Raises:
        SessionError: if the bundle can't be loaded or doesn't answer.
    """
    answers = predict_in_fresh_process(bundle, instances, signature)
    of = f"signature {signature} of " if signature is not None else ""
    lines = [f"Unseen rows, answered by {of}{bundle} in a fresh process:"]
    for instance, truth, answer in zip(instances, truths, answers, strict=True):
        lines += [
            "",
            f"  Row:    {_shortened(instance)}",
            f"  Bundle: {_shortened(answer)}",
            f"  Truth:  {_shortened(truth)}",
        ]
    return "\n".join(lines)


def trial_text(
    bundle: Path, tensorboard_dir: Path, instances: Sequence[Any], truths: Sequence[str]
) -> str:
    """Write what `answers_text` and `next_commands_text` do, as a run's last words."""
    answers = answers_text(bundle, instances, truths)
    return f"\n{answers}\n\n{next_commands_text(bundle, tensorboard_dir, instances[0])}\n"


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _one_line(text)
    return text if len(text) <= _ROW_CHARACTERS else f"{text[:_ROW_CHARACTERS]}…"


def next_commands_text(bundle: Path, tensorboard_dir: Path, instance: Any) -> str:
    """Write the commands that open TensorBoard, serve a bundle, and ask it."""
    return "\n\n".join(
        [
            f"Watch:  {tensorboard_line(tensorboard_dir)}",
            serve_commands_text(bundle, instance),
        ]
    )


def serve_commands_text(bundle: Path, instance: Any) -> str:
    """Write the commands that serve a bundle, and ask it."""
    return "\n\n".join(
        [
            f"Serve:  {docker_run_line(bundle)}",
            f"Or, without Docker:  {preview_line(bundle)}",
            f"Ask:    {curl_line(bundle.parent.name, [instance])}",
        ]
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
