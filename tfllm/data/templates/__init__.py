"""Templates: examples → what a model reads and what it learns to write, in Python and in graph."""

from tfllm.data.templates.dialogue_template import DialogueTemplate
from tfllm.data.templates.example_template import ExampleTemplate, Question
from tfllm.data.templates.pair_template import PairTemplate
from tfllm.data.templates.piece import Piece
from tfllm.data.templates.serving import with_template, with_template_probes
from tfllm.data.templates.template import Template
from tfllm.data.templates.template_file import load_template, save_template

__all__ = [
    "DialogueTemplate",
    "ExampleTemplate",
    "PairTemplate",
    "Piece",
    "Question",
    "Template",
    "load_template",
    "save_template",
    "with_template",
    "with_template_probes",
]
