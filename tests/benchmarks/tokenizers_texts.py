"""The tokenizers that are compared, and the texts they are compared on."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("TFLLM_SHARED_DATA") or ROOT.parent / "shared" / "data")

# Name → folder of the vocabulary, transformers' class, and settings other than its defaults.
CONFIGURATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert-base-uncased": ("bert-base-uncased", "BertTokenizerFast", {}),
    "bert-base-chinese": ("bert-base-chinese", "BertTokenizerFast", {}),
    "bert, cased": ("bert-base-uncased", "BertTokenizerFast", {"do_lower_case": False}),
    "gpt2": ("gpt2", "GPT2TokenizerFast", {}),
    "roberta-base": ("roberta-base", "RobertaTokenizerFast", {}),
    "albert": ("albert", "AlbertTokenizerFast", {}),
}
FOLDERS = ("lm", "classification", "ner/weibo_zh", "translation")
SURROGATES = range(0xD800, 0xE000)
AWKWARD = [
    *("[MASK]", "[SEP]", "[mask]", "[UNK", "##", "<mask>", "</s>", "<s>", "<unk>", "<|endoftext|>"),
    *(" ", "  ", "\t", "\r\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x00", "\ufffd"),
    *(
        "the",
        "ing",
        "n't",
        "'s",
        "'LL",
        "2024",
        "e\u0301",
        "İ",
        "ß",
        "ﬁ",
        "\uac00",
        "\u1100\u1161",
        "👩‍👧",
        "...",
    ),
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def ours(name: str) -> Any:
    """The tokenizer in graph, as `tfllm.text.load` reads it."""
    from tfllm import text

    folder, _, settings = CONFIGURATIONS[name]
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(DATA / "vocab" / folder, copy, dirs_exist_ok=True)
        if settings:
            (Path(copy) / "tokenizer_config.json").write_text(json.dumps(settings))
        return text.load(copy)


def theirs(name: str) -> Any:
    """Hugging Face's fast tokenizer, as transformers' own class makes it."""
    import transformers

    folder, kind, settings = CONFIGURATIONS[name]
    made = getattr(transformers, kind).from_pretrained(DATA / "vocab" / folder, **settings)
    return made.backend_tokenizer


def lines_of(path: Path) -> list[str]:
    """Lines of a file; what is not UTF-8 becomes U+FFFD."""
    return path.read_bytes().decode("utf-8", "replace").split("\n")


def speed_texts(name: str) -> list[str]:
    """The texts of a comparison of speed."""
    if name == "wikitext-2":
        folder = DATA / "lm" / "wikitext-2"
        return lines_of(folder / "wiki.test.tokens") + lines_of(folder / "wiki.valid.tokens")
    if name == "SST-2":
        rows = lines_of(DATA / "classification" / "sst2" / "train.tsv")[1:]
        return [row.split("\t")[0] for row in rows]
    return lines_of(DATA / "classification" / "chnsenticorp_hotel" / "all.csv")[1:]


def corpora(tokenizer: Any, random_strings: int) -> Iterator[tuple[str, list[str]]]:
    """Everything that a tokenizer is compared on, by name."""
    for folder in FOLDERS:
        paths = sorted(path for path in (DATA / folder).rglob("*") if path.is_file())
        yield folder, [line for path in paths for line in lines_of(path)]
    path = DATA / "tokenizer_vectors" / "blns.json"
    yield "naughty strings", json.loads(path.read_text(encoding="utf-8"))
    yield "random strings", random_texts(random_strings, sorted(tokenizer.get_vocab()))


def random_texts(count: int, pieces: Sequence[str], seed: int = 0) -> list[str]:
    """Strings of up to 24 parts: characters of all Unicode, assigned or not, and awkward words."""
    characters = [chr(c) for c in range(0x110000) if c not in SURROGATES]
    marks = [c for c in characters if unicodedata.combining(c)]
    pools: list[tuple[float, Sequence[str]]] = [
        (4, characters[32:127]),
        (3, characters[:0x300]),
        (2.5, AWKWARD),
        (2, marks),
        (1, characters[:0xF000]),
        (0.5, characters),
        (1, pieces),
        (0.5, characters[0x4E00:0x9FFF]),
        (0.05, ["x" * 99, "é" * 100, "é" * 101, "a" * 100 + " "]),
    ]
    weights, choices = zip(*pools, strict=True)
    source = random.Random(seed)

    def text() -> str:
        chosen = source.choices(choices, weights, k=source.randrange(25))
        return "".join(map(source.choice, chosen))

    return [text() for _ in range(count)]


def distinct_words(first: int, end: int) -> list[str]:
    """A word of six letters for each number below 26^6, never the same twice."""
    # The factor shares none with 26^6: it permutes the numbers.
    return [_spelt(number * 98_765_431 % 26**6) for number in range(first, end)]


def _spelt(number: int) -> str:
    letters = []
    for _ in range(6):
        number, letter = divmod(number, 26)
        letters.append(LETTERS[letter])
    return "".join(letters)
