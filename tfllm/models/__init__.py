"""Models: one `keras.Model` a file, each a backbone and a head.

A name is imported when it is first asked for: TensorFlow takes seconds to import.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfllm.models.adaptation import adapt
    from tfllm.models.adapter_files import load_adapters, save_adapters
    from tfllm.models.attribution import attribute
    from tfllm.models.bert_sizes import small_bert_config
    from tfllm.models.causal_lm import CausalLM
    from tfllm.models.context_reader import ContextReader
    from tfllm.models.corpus_answerer import Candidates, CorpusAnswerer
    from tfllm.models.corpus_search import CorpusSearch
    from tfllm.models.dual_encoder import DualEncoder
    from tfllm.models.freezing import freeze_below
    from tfllm.models.generation_defaults import GenerationDefaults
    from tfllm.models.lora import apply_lora, merge_lora
    from tfllm.models.masked_lm import MaskedLM
    from tfllm.models.model_digest import digest_of_model
    from tfllm.models.multi_task_model import MultiTaskModel
    from tfllm.models.nearby_start import attend_nearby
    from tfllm.models.pair_ranker import PairRanker
    from tfllm.models.question_answerer import QuestionAnswerer
    from tfllm.models.task_adapters import apply_lora_by_task
    from tfllm.models.text_classifier import TextClassifier
    from tfllm.models.text_embedder import TextEmbedder
    from tfllm.models.token_classifier import TokenClassifier
    from tfllm.models.trainable import TrainableShare, trainable_share
    from tfllm.models.trained_files import save_trained

__all__ = [
    "Candidates",
    "CausalLM",
    "ContextReader",
    "CorpusAnswerer",
    "CorpusSearch",
    "DualEncoder",
    "GenerationDefaults",
    "MaskedLM",
    "MultiTaskModel",
    "PairRanker",
    "QuestionAnswerer",
    "TextClassifier",
    "TextEmbedder",
    "TokenClassifier",
    "TrainableShare",
    "adapt",
    "apply_lora",
    "apply_lora_by_task",
    "attend_nearby",
    "attribute",
    "digest_of_model",
    "freeze_below",
    "load_adapters",
    "merge_lora",
    "save_adapters",
    "save_trained",
    "small_bert_config",
    "trainable_share",
]

_HOMES = {
    "Candidates": "corpus_answerer",
    "CausalLM": "causal_lm",
    "ContextReader": "context_reader",
    "CorpusAnswerer": "corpus_answerer",
    "CorpusSearch": "corpus_search",
    "DualEncoder": "dual_encoder",
    "GenerationDefaults": "generation_defaults",
    "MaskedLM": "masked_lm",
    "MultiTaskModel": "multi_task_model",
    "PairRanker": "pair_ranker",
    "QuestionAnswerer": "question_answerer",
    "TextClassifier": "text_classifier",
    "TextEmbedder": "text_embedder",
    "TokenClassifier": "token_classifier",
    "TrainableShare": "trainable",
    "adapt": "adaptation",
    "apply_lora": "lora",
    "apply_lora_by_task": "task_adapters",
    "attend_nearby": "nearby_start",
    "attribute": "attribution",
    "digest_of_model": "model_digest",
    "freeze_below": "freezing",
    "load_adapters": "adapter_files",
    "merge_lora": "lora",
    "save_adapters": "adapter_files",
    "save_trained": "trained_files",
    "small_bert_config": "bert_sizes",
    "trainable_share": "trainable",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _leave_out_scikit_learn()
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def _leave_out_scikit_learn() -> None:
    """Keep transformers' models from importing scikit-learn for metrics that nobody asks for.

    It takes a second and 50 MB. Where transformers has no such switch, it takes them.
    """
    from transformers.utils import import_utils

    if "sklearn" not in sys.modules and hasattr(import_utils, "_sklearn_available"):
        import_utils._sklearn_available = False
