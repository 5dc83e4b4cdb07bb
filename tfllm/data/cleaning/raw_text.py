"""Everything that raw text is cleaned of before a language model learns it."""

from __future__ import annotations

from tfllm.data.cleaning.exact_duplicates import ExactDuplicates
from tfllm.data.cleaning.gopher import gopher_steps
from tfllm.data.cleaning.near_duplicates import NearDuplicates
from tfllm.data.cleaning.step import Step
from tfllm.data.cleaning.unicode_repair import UnicodeRepair

__all__ = ["raw_text_steps"]


def raw_text_steps() -> list[Step]:
    """Give Unicode repair, removal of exact and near duplicates, and Gopher's rules, in order.

    Raises:
        InputError: if the extra `clean` is not installed.
    """
    return [UnicodeRepair(), ExactDuplicates(), NearDuplicates(), *gopher_steps()]
