"""Documents as rows of masked pretraining, in one call."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tfllm.data.array_building import build_array_store
from tfllm.data.array_store import ArrayStore
from tfllm.data.encoders.document_row_encoder import DocumentRowEncoder
from tfllm.data.encoders.row_template import RowTemplate
from tfllm.data.encoders.sentence_encoder import SentenceEncoder
from tfllm.data.encoders.worded_tokens import WordedTokenizer, WordKind
from tfllm.data.fast_tokenizer import FastTokenizer
from tfllm.data.masking.masking import Masking
from tfllm.data.pair_plan import PAIR_OBJECTIVES, PairObjective
from tfllm.data.pipeline_masked_pairs import MaskedPairs
from tfllm.data.pipeline_masked_rows import MaskedRows
from tfllm.data.text_examples import text_examples
from tfllm.errors import InputError

__all__ = ["check_objectives", "masked_batches"]

_MASKED = "masked_lm"


def masked_batches(
    documents: Iterable[str],
    tokenizer: Any,
    *,
    masking: Masking | None = None,
    objectives: Collection[str] = (_MASKED,),
    words: WordKind = "pieces",
    sequence_length: int,
    global_batch_size: int,
    seed: int | None = None,
    part: str = "--train",
) -> MaskedRows | MaskedPairs:
    """Tokenize documents, once for all runs, and mask them.

    Another masking, seed or batch size reads the same store; so does `sentence_order` after
    `next_sentence`.

    Args:
        documents: as for `build_store`. For an objective about pairs, a document's sentences are
            its lines.
        tokenizer: a `tfllm.text.Tokenizer` with a mask.
        masking: what is masked; None: 15% of the tokens. `Masking.of(tokenizer, …)`.
        objectives: names, or a mapping by them: `masked_lm`, and perhaps one about pairs:
            `next_sentence` (does the second text follow the first, or is it another document's?)
            or `sentence_order` (are the two in order?). With one, each row holds two texts;
            without, rows hold whole documents and parts of long ones, packed.
        words: what a word is, see `WordedTokenizer`.
        sequence_length: positions of a row.
        global_batch_size: rows of a step.
        seed: shuffles and draws; None, for validation: a fixed order, and the same masks always.
        part: what the documents are, for the message.

    Raises:
        InputError: if an objective is none, the vocabulary has no mask, a pair can't be made of
            the documents, or there is no text in them.
    """
    objective = check_objectives(objectives)
    masking = Masking.of(tokenizer) if masking is None else masking
    worded = WordedTokenizer(FastTokenizer.of(tokenizer), words)
    pad_id = tokenizer.pad_id or 0
    if objective is None:
        encoder = DocumentRowEncoder(worded, sequence_length)
        rows = build_array_store(text_examples(documents), encoder)
        _check_any(rows, part)
        return MaskedRows(
            rows,
            masking,
            sequence_length=sequence_length,
            global_batch_size=global_batch_size,
            seed=seed,
            pad_id=pad_id,
        )
    sentences = build_array_store(
        text_examples(documents), SentenceEncoder(worded, sequence_length)
    )
    _check_any(sentences, part)
    _check_lines(sentences, objective, part)
    batches = MaskedPairs(
        sentences,
        masking,
        objective=objective,
        single=RowTemplate.of(worded.tokenizer.fast, pair=False),
        pair=RowTemplate.of(worded.tokenizer.fast, pair=True),
        sequence_length=sequence_length,
        global_batch_size=global_batch_size,
        seed=seed,
        pad_id=pad_id,
    )
    _check_documents(batches, part)
    return batches


def check_objectives(objectives: Collection[str]) -> PairObjective | None:
    """Give the objective about pairs among these, if there is one.

    Raises:
        InputError: if one is not known, masked words are not among them, or there are two about
            pairs.
    """
    known = (_MASKED, *PAIR_OBJECTIVES)
    for objective in objectives:
        if objective not in known:
            raise InputError(f"--objectives must be of {', '.join(known)}. Received: {objective!r}")
    pairs = [objective for objective in PAIR_OBJECTIVES if objective in objectives]
    if _MASKED not in objectives or len(pairs) > 1:
        raise InputError(
            f"--objectives must be {_MASKED}, alone or with one of {' and '.join(PAIR_OBJECTIVES)}."
            f" Received: {' '.join(objectives) or 'none'}"
        )
    return pairs[0] if pairs else None


def _check_any(store: ArrayStore, part: str) -> None:
    if not len(store):
        raise InputError(f"{part} holds no token of text. Give text")


def _check_lines(store: ArrayStore, objective: str, part: str) -> None:
    if not store.manifest.counts["documents_of_lines"]:
        raise InputError(
            f"{part}: --objectives {objective} needs sentences that follow each other, one a line, "
            f"and none of the {store.manifest.counts['documents']:,} documents has two lines. Give "
            "another --documents (file or blank_line), or --objectives masked_lm alone"
        )


def _check_documents(batches: MaskedPairs, part: str) -> None:
    if batches.objective == "next_sentence" and batches.plan.num_documents_of_pairs < 2:
        raise InputError(
            f"{part}: --objectives next_sentence takes sentences of another document, and only one "
            "document has two lines or more. Give another --documents (blank_line), more text, or "
            "--objectives masked_lm sentence_order"
        )
