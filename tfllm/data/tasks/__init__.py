"""Tasks: labelled examples out of files in one call, and what can be wrong with them."""

from tfllm.data.tasks.answer_spec import AnswerSpec
from tfllm.data.tasks.completions import read_completions
from tfllm.data.tasks.dialogues import read_dialogues
from tfllm.data.tasks.documents import read_documents
from tfllm.data.tasks.labels import check_labels, label_counts, label_names, tag_names
from tfllm.data.tasks.parts import Parts
from tfllm.data.tasks.questions import read_questions
from tfllm.data.tasks.retrieval import RetrievalParts, read_retrieval
from tfllm.data.tasks.tag_spec import TagSpec
from tfllm.data.tasks.tagged_words import read_tagged_words
from tfllm.data.tasks.task_file import read_task_file, showcase_tasks
from tfllm.data.tasks.task_spec import TaskSpec
from tfllm.data.tasks.text_spec import TextSpec
from tfllm.data.tasks.texts import read_examples, text_fields

__all__ = [
    "AnswerSpec",
    "Parts",
    "RetrievalParts",
    "TagSpec",
    "TaskSpec",
    "TextSpec",
    "check_labels",
    "label_counts",
    "label_names",
    "read_completions",
    "read_dialogues",
    "read_documents",
    "read_examples",
    "read_questions",
    "read_retrieval",
    "read_tagged_words",
    "read_task_file",
    "showcase_tasks",
    "tag_names",
    "text_fields",
]
