"""Encoders: a batch of examples → columns of arrays. Importing it imports no TensorFlow."""

from tfllm.data.encoders.completion_encoder import CompletionEncoder
from tfllm.data.encoders.document_encoder import DocumentEncoder
from tfllm.data.encoders.document_row_encoder import DocumentRowEncoder
from tfllm.data.encoders.encoder import Encoded, Encoder
from tfllm.data.encoders.question_encoder import QuestionEncoder
from tfllm.data.encoders.ragged import Ragged
from tfllm.data.encoders.sentence_encoder import SentenceEncoder
from tfllm.data.encoders.tag_encoder import TagEncoder
from tfllm.data.encoders.text_encoder import TextEncoder
from tfllm.data.encoders.worded_tokens import WordedTokenizer

__all__ = [
    "CompletionEncoder",
    "DocumentEncoder",
    "DocumentRowEncoder",
    "Encoded",
    "Encoder",
    "QuestionEncoder",
    "Ragged",
    "SentenceEncoder",
    "TagEncoder",
    "TextEncoder",
    "WordedTokenizer",
]
