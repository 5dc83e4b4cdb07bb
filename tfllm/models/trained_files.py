"""What a run leaves of its model, beside the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfllm.models.adapter_files import save_adapters
from tfllm.models.lora import merge_lora
from tfllm.models.multi_task_model import MultiTaskModel

__all__ = ["save_trained"]


def save_trained(model: Any, run_dir: Path, tokenizer: Any, *, adapters: bool) -> None:
    """Save a trained model as `model/`, and its adapters alone as `adapters/` where it has any.

    Adapters are merged into the model on the way; those of tasks stay, `adapters/<task>` each,
    because the matrix below them is of all tasks. Folders of a run that got as far before are
    replaced.

    Args:
        model: with its best weights; it has `save_pretrained`.
        run_dir: of the run.
        tokenizer: a `tfllm.text.Tokenizer`, saved beside the weights.
        adapters: whether the model was trained through adapters.

    Raises:
        InputError: if a folder can't be written.
    """
    if adapters and isinstance(model, MultiTaskModel) and model.adapted_by_task:
        for name, task in model.tasks.items():
            if name not in model.frozen:
                save_adapters(task, run_dir / "adapters" / name, overwrite=True)
    elif adapters:
        save_adapters(model, run_dir / "adapters", overwrite=True)
        merge_lora(model)
    model.save_pretrained(run_dir / "model", tokenizer, overwrite=True)
