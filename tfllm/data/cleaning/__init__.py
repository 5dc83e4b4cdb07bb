"""Cleaning: documents → fewer and better documents, with a count of what each step did."""

from tfllm.data.cleaning.cleaner import Cleaner
from tfllm.data.cleaning.exact_duplicates import ExactDuplicates
from tfllm.data.cleaning.gopher import gopher_steps
from tfllm.data.cleaning.length import Length
from tfllm.data.cleaning.letter_share import LetterShare
from tfllm.data.cleaning.near_duplicates import NearDuplicates
from tfllm.data.cleaning.raw_text import raw_text_steps
from tfllm.data.cleaning.removal import Removal
from tfllm.data.cleaning.repeated_lines import RepeatedLines
from tfllm.data.cleaning.repeated_phrases import RepeatedPhrases
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.symbols import Symbols
from tfllm.data.cleaning.unicode_repair import UnicodeRepair
from tfllm.data.cleaning.word_length import WordLength

__all__ = [
    "Cleaner",
    "ExactDuplicates",
    "Length",
    "LetterShare",
    "NearDuplicates",
    "Removal",
    "RepeatedLines",
    "RepeatedPhrases",
    "Step",
    "Symbols",
    "UnicodeRepair",
    "WordLength",
    "gopher_steps",
    "raw_text_steps",
]
