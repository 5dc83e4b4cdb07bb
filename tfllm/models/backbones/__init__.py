"""Backbones: transformers' TF models without a head, whatever their family.

```
load_backbone, create_backbone    a folder or a configuration → a backbone
hidden_states                     a backbone and a batch → its last states
traits, word_embeddings           what heads and attributions need to know
classification_head               the head that PyTorch's class of the family has
save_folder, load_heads           to and from folders that PyTorch's classes load
```
The differences between families stand in one table, `families.FAMILIES`, and nowhere else.
"""

from tfllm.models.backbones.classification_head import (
    ClassificationHead,
    classification_head,
    drop_pooler,
    head_dropout,
)
from tfllm.models.backbones.forward import (
    Traits,
    create_backbone,
    hidden_states,
    traits,
    word_embeddings,
)
from tfllm.models.backbones.loading import load_backbone, load_config, load_heads
from tfllm.models.backbones.saving import save_folder, without_head
from tfllm.models.backbones.weights import pretrained_tensors

__all__ = [
    "ClassificationHead",
    "Traits",
    "classification_head",
    "create_backbone",
    "drop_pooler",
    "head_dropout",
    "hidden_states",
    "load_backbone",
    "load_config",
    "load_heads",
    "pretrained_tensors",
    "save_folder",
    "traits",
    "without_head",
    "word_embeddings",
]
