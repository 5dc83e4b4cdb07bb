"""How likely a masked language model finds the lines of a file.

    python recipes/pretrain_masked_lm.py --train wiki.train.tokens --validation wiki.valid.tokens
    python tests/benchmarks/pseudo_perplexity.py --model runs/pretrain_masked_lm/model \
        --text wiki.test.tokens --lines 200

Each token is hidden in turn, and `MaskedLM.pseudo_log_likelihoods` asks the model for it. Beside
the pseudo-perplexity stands that of guessing by how often each token is in these same lines, which
flatters the guess. Numbers of models with different vocabularies can't be compared by token; bits
per byte can.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any


def first_lines(path: Path, count: int) -> list[str]:
    """Lines that hold text, from the beginning."""
    with path.open(encoding="utf-8") as file:
        return list(islice((line.strip() for line in file if line.strip()), count))


def unigram_perplexity(lines: Sequence[str], tokenizer: Any) -> float:
    counts: Counter[int] = Counter()
    for encoding in tokenizer.fast.encode_batch(lines, add_special_tokens=False):
        counts.update(encoding.ids)
    total = sum(counts.values())
    return math.exp(-sum(n * math.log(n / total) for n in counts.values()) / total)


def measure(model_folder: Path, lines: Sequence[str], batch_size: int) -> dict[str, float]:
    from tfllm import text
    from tfllm.models import MaskedLM

    tokenizer = text.load(model_folder)
    model = MaskedLM.from_pretrained(model_folder)
    found = model.pseudo_log_likelihoods(lines, tokenizer, batch_size=batch_size)
    nats, size = -float(found.texts.sum()), sum(len(line.encode()) for line in lines)
    return {
        "lines": len(lines),
        "tokens": int(found.counts.sum()),
        "pseudo_perplexity": found.perplexity,
        "unigram_perplexity": unigram_perplexity(lines, tokenizer),
        "pseudo_bits_per_byte": nats / math.log(2) / size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a run's model folder")
    parser.add_argument("--text", type=Path, required=True, help="UTF-8, a text each line")
    parser.add_argument("--lines", type=int, default=200, help="the first ones that hold text")
    parser.add_argument("--batch_size", type=int, default=32, help="rows at once")
    given = parser.parse_args()
    os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = measure(given.model, first_lines(given.text, given.lines), given.batch_size)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
