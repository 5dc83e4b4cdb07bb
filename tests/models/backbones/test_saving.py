"""What is written has the names and shapes that PyTorch's classes have."""

import json
from pathlib import Path

import pytest
import tf_keras as keras

from tfllm.models.backbones import (
    classification_head,
    create_backbone,
    drop_pooler,
    pretrained_tensors,
    save_folder,
)

# From PyTorch itself: `write_pytorch_names.py`.
EXPECTED = json.loads((Path(__file__).parent / "pytorch_names.json").read_text())
TASKS = ["SequenceClassification", "TokenClassification", "QuestionAnswering"]


def dense(width: int) -> keras.layers.Dense:
    layer = keras.layers.Dense(width)
    layer.build([None, 8])
    return layer


def test_names_of_the_bare_model(backbone):
    found = {name: list(a.shape) for name, a in pretrained_tensors(backbone, {}).items()}
    expected = dict(EXPECTED[backbone.config.model_type]["bare"])
    if backbone.config.model_type in ("roberta", "xlm-roberta"):
        # No head uses their pooler, and it is not kept.
        assert [expected.pop(f"pooler.dense.{name}") for name in ("weight", "bias")]
    assert found == expected


@pytest.mark.parametrize("task", TASKS)
def test_names_of_models_with_heads(config, tmp_path, task):
    backbone = create_backbone(config)
    expected = EXPECTED[config.model_type]["tasks"][task]
    if task == "SequenceClassification":
        heads = classification_head(backbone, 2).heads
    else:
        drop_pooler(backbone)
        heads = {"classifier" if task[0] == "T" else "qa_outputs": dense(2)}
    found = {name: list(a.shape) for name, a in pretrained_tensors(backbone, heads).items()}
    bare = EXPECTED[config.model_type]["bare"]
    within = {f"{expected['prefix']}{n}": s for n, s in bare.items() if n not in expected["lacks"]}
    assert found == within | expected["heads"]
    save_folder(tmp_path / "a", backbone, heads, task=task)
    settings = json.loads((tmp_path / "a" / "config.json").read_text())
    assert settings["architectures"] == [expected["class"]]
    assert settings["model_type"] == config.model_type
