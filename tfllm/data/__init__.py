"""Data: readers → encoders → store → plan → pipeline. Importing it imports no TensorFlow."""

from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.bucket_plan import BucketPlan
from tfllm.data.budget_plan import BudgetPlan
from tfllm.data.completion_batches import completion_batches
from tfllm.data.corpus import Corpus, DocumentUnit, read_corpus
from tfllm.data.encoders import (
    CompletionEncoder,
    DocumentEncoder,
    QuestionEncoder,
    TagEncoder,
    TextEncoder,
)
from tfllm.data.encoders.worded_tokens import WordKind
from tfllm.data.example_numbers import example_numbers
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.judged import Judged, JudgedPairs
from tfllm.data.masked_batches import check_objectives, masked_batches
from tfllm.data.masking import Masking, MaskUnit
from tfllm.data.mixture_plan import MixturePlan
from tfllm.data.multi_task_batches import MultiTaskBatches, task_shares
from tfllm.data.packed_plan import PackedPlan
from tfllm.data.pipeline import TokenBlocks
from tfllm.data.pipeline_masked_pairs import MaskedPairs
from tfllm.data.pipeline_masked_rows import MaskedRows
from tfllm.data.pipeline_mixed import MixedBatches
from tfllm.data.pipeline_packed import PackedDocuments
from tfllm.data.pipeline_packed_rows import PackedRows
from tfllm.data.pipeline_rows import RowBatches
from tfllm.data.plan import BlockPlan
from tfllm.data.retrieval_batches import RetrievalBatches
from tfllm.data.row_plan import RowPlan
from tfllm.data.store import TokenStore, build_store, check_length
from tfllm.data.stores import clear_stores, list_stores
from tfllm.data.task_batches import task_batches
from tfllm.data.tasks import (
    Parts,
    check_labels,
    label_counts,
    label_names,
    read_completions,
    read_dialogues,
    read_examples,
    read_questions,
    read_tagged_words,
    tag_names,
    text_fields,
)
from tfllm.data.text_files import find_files
from tfllm.data.unigram import unigram_accuracy
from tfllm.data.widths import choose_widths

__all__ = [
    "ArrayStore",
    "BlockPlan",
    "BucketPlan",
    "BudgetPlan",
    "CompletionEncoder",
    "Corpus",
    "DocumentEncoder",
    "DocumentUnit",
    "FastTokenizer",
    "Judged",
    "JudgedPairs",
    "MaskUnit",
    "MaskedPairs",
    "MaskedRows",
    "Masking",
    "MixedBatches",
    "MixturePlan",
    "MultiTaskBatches",
    "PackedDocuments",
    "PackedPlan",
    "PackedRows",
    "Parts",
    "QuestionEncoder",
    "RetrievalBatches",
    "RowBatches",
    "RowPlan",
    "TagEncoder",
    "TextEncoder",
    "TokenBlocks",
    "TokenStore",
    "build_array_store",
    "build_store",
    "check_labels",
    "check_length",
    "choose_widths",
    "completion_batches",
    "clear_stores",
    "example_numbers",
    "label_counts",
    "label_names",
    "find_files",
    "list_stores",
    "masked_batches",
    "check_objectives",
    "WordKind",
    "read_corpus",
    "read_completions",
    "read_dialogues",
    "read_examples",
    "read_questions",
    "read_tagged_words",
    "tag_names",
    "task_batches",
    "task_shares",
    "text_fields",
    "unigram_accuracy",
]
