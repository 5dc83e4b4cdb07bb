"""Bars of the tokenizers and the data engine, measured side by side in one run.

    python tests/benchmarks/data.py                    all rows
    python tests/benchmarks/data.py padding            rows whose name holds a word
    python tests/benchmarks/data.py exact --random 5000

The data lie beside the checkout, or where `TFLLM_SHARED_DATA` says. Times are medians of runs that
alternate; on a shared machine only their ratios mean something. What is to be measured in fresh
processes runs this file again with the name of a part.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers_exactness
import tokenizers_memory
import tokenizers_speed
from tokenizers_texts import CONFIGURATIONS, DATA, ROOT

sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
CORES = len(os.sched_getaffinity(0))
REPEATS = 5
RANDOM_STRINGS = 200_000


class Row(NamedTuple):
    """One line of the table."""

    name: str
    ours: str
    other: str
    bar: str
    holds: bool


# -------------------------------------------------------------------- measuring


def rss_anon() -> int:
    """Anonymous memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024


def seconds(action: Callable[[], object]) -> float:
    """Time one run."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternating(*actions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median seconds of each action, the runs in turn."""
    times = [[seconds(action) for action in actions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def in_fresh_process(part: str, *arguments: object) -> Any:
    """Run one of `PARTS` in a process of its own and give what it returns."""
    command = [sys.executable, __file__, "--part", part, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# -------------------------------------------------------------------- texts


def wikitext(part: str = "train") -> list[str]:
    """Lines of WikiText-2."""
    path = DATA / "lm" / "wikitext-2" / f"wiki.{part}.tokens"
    return path.read_text(encoding="utf-8").split("\n")


def articles(lines: Iterable[str]) -> list[str]:
    """WikiText-2 cut before its headings of the first level."""
    documents: list[list[str]] = [[]]
    for line in lines:
        if re.fullmatch(r" = [^=].*[^=] = ", line) and documents[-1]:
            documents.append([])
        documents[-1].append(line)
    return ["\n".join(document) for document in documents]


def gpt2() -> Any:
    """GPT-2's tokenizer."""
    from tfllm import text

    return text.load(DATA / "vocab" / "gpt2")


# -------------------------------------------------------------------- store


def hugging_face_share(texts: str, tokenizer: str, worker: str) -> float:
    """Encode one process's share of the documents; give the seconds that encoding alone took."""
    from tokenizers import Tokenizer

    documents = json.loads(Path(texts).read_text())[int(worker) :: CORES]
    fast = Tokenizer.from_file(tokenizer)
    start = time.perf_counter()
    for first in range(0, len(documents), 256):
        for encoding in fast.encode_batch_fast(documents[first : first + 256]):
            encoding.ids  # noqa: B018
    return time.perf_counter() - start


def hugging_face(texts: Path, tokenizer: Path) -> list[float]:
    """Encode in one process a core; give the seconds that encoding alone took in each."""
    command = [sys.executable, __file__, "--part", "hugging_face_share", texts, tokenizer]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    running = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, env=environment)
        for i in range(CORES)
    ]
    return [json.loads(process.communicate()[0]) for process in running]


def store_rows() -> Iterator[Row]:
    """Build the store of WikiText-2, and open it again."""
    from tfllm.data import build_store

    tokenizer = gpt2()
    for unit, documents in (("articles", articles(wikitext())), ("lines", wikitext())):
        with tempfile.TemporaryDirectory() as folder:
            texts, fast = Path(folder) / "texts.json", Path(folder) / "tokenizer.json"
            texts.write_text(json.dumps(documents))
            tokenizer.fast.save(str(fast))
            alone: list[float] = []
            number = iter(range(99))

            def build(documents=documents, folder=folder, number=number):
                return build_store(documents, tokenizer, cache_dir=f"{folder}/{next(number)}")

            def others(texts=texts, fast=fast, alone=alone):
                alone.append(max(hugging_face(texts, fast)))

            ours, theirs = alternating(build, others)
            encoding = statistics.median(alone)
            again = seconds(
                lambda documents=documents, folder=folder: build_store(
                    documents, tokenizer, cache_dir=f"{folder}/0"
                )
            )
        yield Row(
            f"store of wikitext-2 {unit}, GPT-2",
            f"{ours:.2f} s",
            f"HF, {CORES} processes: {theirs:.2f} s; encoding alone {encoding:.2f} s",
            "at most HF's time",
            ours <= theirs,
        )
        yield Row(f"  the second run, {unit}", f"{again:.2f} s", "", "< 1 s", again < 1)


def build_memory(times: str) -> float:
    """Peak of anonymous memory while a corpus is built, in bytes above the start's."""
    from tfllm.data import build_store

    class Corpus:
        def __iter__(self) -> Iterator[str]:
            path = DATA / "lm" / "wikitext-2" / "wiki.train.tokens"
            for copy in range(int(times)):
                with path.open(encoding="utf-8") as file:
                    yield from (f"{copy} {line}" for line in file)

    tokenizer = gpt2()
    build_store(["a b c"], tokenizer, cache_dir=tempfile.mkdtemp())
    start, highest, ended = rss_anon(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not ended.wait(0.01):
            highest = max(highest, rss_anon())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        build_store(Corpus(), tokenizer, cache_dir=folder, processes=CORES)
    ended.set()
    watcher.join()
    return highest - start


def store_memory_rows() -> Iterator[Row]:
    """Anonymous memory of building, for a corpus and one four times as large."""
    one, four = in_fresh_process("build_memory", 1), in_fresh_process("build_memory", 4)
    yield Row(
        "RssAnon while a store is built, 11 MB → 43 MB",
        f"+{one / 2**20:.0f} → +{four / 2**20:.0f} MB",
        "",
        "flat within 20 MB",
        four - one < 20 * 2**20,
    )


# -------------------------------------------------------------------- plans


def sparse_store(folder: Path, tokens: int, documents: int) -> Any:
    """A store of zeros that takes no disk: one document every so many tokens."""
    import numpy as np

    from tfllm.data.array_manifest import FORMAT, ArrayManifest, Column
    from tfllm.data.store import TokenStore

    folder.mkdir()
    with (folder / "input_ids.values.bin").open("wb") as file:
        file.truncate(2 * tokens)
    mapped = np.memmap(folder / "input_ids.offsets.bin", np.int64, "w+", shape=(documents + 1,))
    for first in range(0, documents + 1, 1 << 20):
        places = np.arange(first, min(first + (1 << 20), documents + 1))
        mapped[places] = places * tokens // documents
    mapped.flush()
    column = Column("uint16", tokens, True, "", "")
    encoder = {"encoder": "documents", "tokenizer": "", "start_id": 0}
    counts = {"text_bytes": 4 * tokens}
    ArrayManifest(FORMAT, "", encoder, documents, counts, {"input_ids": column}).write(folder)
    return TokenStore(folder)


def far_steps(tokens: str, kind: str) -> dict[str, float]:
    """Seconds of a batch at step 10 and at step 10,000,000, and anonymous memory."""
    from tfllm.data.pipeline import TokenBlocks
    from tfllm.data.pipeline_packed import PackedDocuments

    start = rss_anon()
    with tempfile.TemporaryDirectory() as folder:
        store = sparse_store(Path(folder) / "store", int(tokens), int(tokens) // 300)
        make = TokenBlocks if kind == "blocks" else PackedDocuments
        built = time.perf_counter()
        data = make(store, sequence_length=1024, global_batch_size=16, seed=0)
        built = time.perf_counter() - built

        def some(first: int) -> Callable[[], None]:
            return lambda: [data.batch(step) for step in range(first, first + 50)] and None

        near, far = alternating(some(10), some(10_000_000), repeats=9)
        return {"near": near / 50, "far": far / 50, "memory": rss_anon() - start, "built": built}


def far_step_rows(tokens: int = 10**9) -> Iterator[Row]:
    """What a batch costs far out, in a store of a billion tokens."""
    for kind in ("blocks", "packed"):
        found = in_fresh_process("far_steps", tokens, kind)
        near, far, memory = found["near"], found["far"], found["memory"]
        yield Row(
            f"16 x 1024 {kind} of {tokens:.0e} tokens, step 10 | step 10,000,000",
            f"{1e3 * near:.2f} | {1e3 * far:.2f} ms (planned in {found['built']:.1f} s)",
            "",
            "the same within 15%",
            abs(far / near - 1) < 0.15,
        )
        yield Row(
            "  RssAnon above the import",
            f"+{memory / 2**20:.0f} MB",
            "",
            "< 300 MB",
            memory < 300 * 2**20,
        )


def padding_rows() -> Iterator[Row]:
    """Share of positions that hold tokens."""
    import numpy as np
    from transformers import BertTokenizerFast

    from tfllm.data.bucket_plan import BucketPlan
    from tfllm.data.budget_plan import BudgetPlan
    from tfllm.data.packed_plan import PackedPlan
    from tfllm.data.widths import choose_widths

    bert = BertTokenizerFast(str(DATA / "vocab" / "bert-base-uncased" / "vocab.txt"))
    lines = (DATA / "classification" / "sst2" / "train.tsv").read_text().splitlines()[1:]
    sentences = [line.split("\t")[0] for line in lines]
    encodings = bert.backend_tokenizer.encode_batch_fast(sentences)
    lengths = np.array([len(encoding) for encoding in encodings])
    for name, plan in (
        ("batches of 32, bucketed", BucketPlan(lengths, 32, 0)),
        (
            "budget of 1024 tokens, 20 widths",
            BudgetPlan(lengths, choose_widths(lengths), token_budget=1024, seed=0),
        ),
    ):
        steps = [plan.rows(step) for step in range(plan.steps_per_epoch)]
        share = lengths.sum() / sum(step.size * step.width for step in steps)
        yield Row(f"SST-2, {name}", f"{share:.2%} real", "", ">= 95%", share >= 0.95)
    tokenizer = gpt2()
    for unit, documents in (("articles", articles(wikitext())), ("lines", wikitext())):
        found = tokenizer.fast.encode_batch_fast([text for text in documents if text.strip()])
        offsets = np.cumsum([0] + [1 + len(encoding) for encoding in found])
        for length in (256, 1024):
            share = PackedPlan(offsets, length, 16, 0).real_share
            name = f"wikitext-2 {unit} packed into rows of {length}"
            yield Row(name, f"{share:.2%} real", "", ">= 98%", share >= 0.98)


def packing_rows() -> Iterator[Row]:
    """Time to plan for ten million documents."""
    found = in_fresh_process("pack_many", 10_000_000)
    yield Row(
        "packing plan of 10,000,000 documents (3e9 tokens)",
        f"{found['seconds']:.1f} s, {found['share']:.2%} real, "
        f"+{found['memory'] / 2**20:.0f} MB kept",
        "",
        "seconds",
        found["seconds"] < 60,
    )


def pack_many(documents: str) -> dict[str, float]:
    """Pack documents of random lengths."""
    import numpy as np

    from tfllm.data.packed_plan import PackedPlan

    sizes = np.random.default_rng(0).gamma(1.5, 200, int(documents)).astype(np.int64) + 1
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    del sizes
    before, start = rss_anon(), time.perf_counter()
    plan = PackedPlan(offsets, 1024, 16, 0)
    took = time.perf_counter() - start
    return {"seconds": took, "share": plan.real_share, "memory": rss_anon() - before}


# -------------------------------------------------------------------- pipeline


def pipeline_rows() -> Iterator[Row]:
    """Tokens a second of the pipeline alone."""
    from tfllm.data import TokenBlocks, build_store
    from tfllm.data.pipeline_packed import PackedDocuments

    with tempfile.TemporaryDirectory() as folder:
        lines = [line for line in wikitext() if line.strip()]
        store = build_store(lines, gpt2(), cache_dir=folder)
        for make in (TokenBlocks, PackedDocuments):
            data = make(store, sequence_length=1024, global_batch_size=16, seed=0)
            dataset = data.dataset(0, 200)
            list(dataset.take(5))
            (took,) = alternating(lambda dataset=dataset: sum(1 for _ in dataset), repeats=3)
            rate = 200 * 16 * 1024 / took
            name = f"{make.__name__}, 16 x 1024 tokens, through tf.data"
            yield Row(name, f"{rate / 1e6:.1f} M tokens/s", "", "", True)


# -------------------------------------------------------------------- tokenizers


def tokenizer_speed_rows() -> Iterator[Row]:
    """Tokenizers in graph beside Hugging Face's, a process and a core each."""
    for name, texts, bar in (
        ("bert-base-uncased", "wikitext-2", 5),
        ("bert-base-uncased", "SST-2", 5),
        ("bert-base-chinese", "hotel reviews", 5),
        ("gpt2", "wikitext-2", 1),
        ("gpt2", "SST-2", 1),
        ("albert", "wikitext-2", 0),
    ):
        ours, theirs = tokenizers_speed.speeds(name, texts, REPEATS)
        yield Row(
            f"{name} in graph, {texts}, one core",
            f"{ours:.2f} MB/s, {ours / theirs:.2f} x HF",
            f"HF fast: {theirs:.2f} MB/s",
            f">= {bar} x HF" if bar else "",
            ours >= bar * theirs,
        )


def tokenizer_memory_rows(words: int = 2_000_000) -> Iterator[Row]:
    """Anonymous memory of a tokenizer in graph that meets new words all the time."""
    for name in ("bert-base-uncased", "gpt2", "albert"):
        found = in_fresh_process("tokenizer_memory", name, words)
        yield Row(
            f"RssAnon over {words:,} distinct words, {name} in graph",
            f"{found['end'] / 2**20:+.1f} MB",
            f"highest {found['highest'] / 2**20:+.1f} MB",
            "within 20 MB",
            found["highest"] < 20 * 2**20,
        )


def tokenizer_memory(name: str, words: str) -> dict[str, int]:
    """Tokenize distinct words; give the bytes that memory grew by."""
    return tokenizers_memory.growth(name, int(words), rss_anon)


def tokenizer_exactness_rows(random_strings: int = RANDOM_STRINGS) -> Iterator[Row]:
    """Texts whose ids or offsets are not those of transformers' fast tokenizer."""
    for name in CONFIGURATIONS:
        found = in_fresh_process("tokenizer_exactness", name, random_strings)
        for corpus, counts in found.items():
            yield Row(
                f"{name}, {corpus}: {counts['texts']:,} texts",
                f"{counts['ids']} ids, {counts['offsets']} offsets differ",
                "",
                "none",
                counts["ids"] == counts["offsets"] == 0,
            )


def tokenizer_exactness(name: str, random_strings: str) -> dict[str, dict[str, int]]:
    """Count the mismatches of one tokenizer."""
    return tokenizers_exactness.mismatches(name, int(random_strings))


# -------------------------------------------------------------------- table

ROWS = (
    store_rows,
    store_memory_rows,
    far_step_rows,
    padding_rows,
    packing_rows,
    pipeline_rows,
    tokenizer_speed_rows,
    tokenizer_memory_rows,
    tokenizer_exactness_rows,
)
PARTS = {
    part.__name__: part
    for part in (
        hugging_face_share,
        build_memory,
        far_steps,
        pack_many,
        tokenizer_memory,
        tokenizer_exactness,
    )
}


def show(row: Row) -> None:
    """Print one line of the table."""
    mark = "ok " if row.holds else "NOT"
    print(f"{mark} {row.name:<72} {row.ours:<34} {row.bar:<20} {row.other}", flush=True)


def main() -> int:
    """Print the rows asked for; 1 if a bar does not hold."""
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(PARTS[sys.argv[2]](*sys.argv[3:])))
        return 0
    if not DATA.is_dir():
        sys.exit(f"no real data at {DATA}; set TFLLM_SHARED_DATA")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only rows whose name holds one of them")
    parser.add_argument("--random", type=int, default=RANDOM_STRINGS, help="strings a tokenizer")
    chosen = parser.parse_args()
    settings = {tokenizer_exactness_rows: {"random_strings": chosen.random}}
    held = True
    for rows in ROWS:
        if not chosen.words or any(word in rows.__name__ for word in chosen.words):
            for row in rows(**settings.get(rows, {})):
                show(row)
                held &= row.holds
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
