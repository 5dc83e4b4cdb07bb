r"""Answers from a corpus: where a question's time goes; and an index of a million vectors.

    python tests/benchmarks/answers.py squad --pretrained MINILM --reader READER \
        --squad dev-v1.1.json
    python tests/benchmarks/answers.py weights --pretrained MINILM --reader READER \
        --squad train-v1.1.json --paragraphs 2000 --questions 500
    python tests/benchmarks/answers.py million --kinds exact flat ivf    # some 5 minutes
    python tests/benchmarks/answers.py million --kinds flat hnsw         # some 20 minutes

`squad` puts the paragraphs of a SQuAD file into one bundle, and asks the loaded bundle, as
TensorFlow Serving loads it, one question at a time: text in, answer out. READER is the model folder
of a run of finetune_question_answering.py.

`weights` measures how scores of reading and of retrieval are best added: exact match and F1 by the
weight of the retrieval's, for three scores of reading: the span's; less that of no answer; and the
logarithm of its share beside no answer. It is to see other questions than those that are measured
with afterwards.

`million` writes synthetic vectors of 384 numbers and builds, loads and asks, each in a process of
its own: `exact`, a bundle of `CorpusSearch` whose embedder has one layer, through its `search`; and
the kinds of FAISS. Peak memory is the process's high-water mark; for a bundle also the most that it
and the gate's process, which loads the bundle, had together. Recall is against FAISS's flat index.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WIDTH, BLOCK, FOUND = 384, 65_536, 10
PARTS = ("search", "rerank", "read")
WEIGHTS = {"retriever": (0, 10, 20, 30, 40, 60, 80, 120), "BM25": (0, 0.1, 0.2, 0.5, 1, 2, 3, 5)}
# What `weights` takes: of the trial, and the recipe's of the reader.
SIZES = {
    "paragraphs": 2000,
    "questions": 500,
    "k": 5,
    "reader_sequence_length": 384,
    "overlap": 128,
    "max_question_tokens": 64,
}


# ------------------------------------------------------------------------------------ a million


def write_vectors(path: Path, count: int) -> None:
    """Write vectors of length 1 near a plane of 32 dimensions, as those of texts are."""
    import numpy as np

    rng = np.random.default_rng(0)
    plane = rng.standard_normal((32, WIDTH), np.float32)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH))
    for first in range(0, count, BLOCK):
        rows = min(BLOCK, count - first)
        block = rng.standard_normal((rows, 32), np.float32) @ plane
        block += 2 * rng.standard_normal((rows, WIDTH), np.float32)
        vectors[first : first + rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
    vectors.flush()


def queries_of(vectors: Any, count: int) -> Any:
    """Near some of the vectors, as a question is near its documents."""
    import numpy as np

    rows = np.linspace(0, len(vectors) - 1, count).astype(np.int64)
    noise = np.random.default_rng(1).standard_normal((count, WIDTH), np.float32)
    return vectors[rows] + noise / WIDTH**0.5


def build_exact(folder: str) -> None:
    """Export a bundle that searches the vectors, through the gate."""
    import numpy as np
    from transformers import BertConfig

    from tfllm import export, models, text

    vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r")
    words = ["a question of a few words about one of the documents"] * 2
    tokenizer = text.train_wordpiece(words, 100)
    config = BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=WIDTH,
    )
    ids = [f"d{row}" for row in range(len(vectors))]
    texts = [f"Document {row} says nothing." for row in range(len(vectors))]
    search = models.CorpusSearch(
        models.TextEmbedder.from_config(config), vectors, ids=ids, texts=texts
    )
    preprocess = text.Preprocessor(tokenizer, sequence_length=64)
    export.export_bundle(
        search.signatures(preprocess, k=FOUND),
        folder,
        "exact",
        modules=[search, preprocess],
        probes=search.probes(),
    )


def load_exact(folder: str) -> Callable[[int], Any]:
    """Load it as TensorFlow Serving does; asking takes text."""
    from tfllm.serving import Session, newest_version

    session = Session(newest_version(Path(folder) / "exact"))
    return lambda number: session.run("serving_default", {"query": [f"a question about {number}"]})


def build_faiss(folder: str, kind: str) -> None:
    """Build an index and write it."""
    import numpy as np

    from tfllm.retrieval import FaissIndex

    vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r")
    FaissIndex.build(vectors, kind).save(Path(folder) / f"{kind}.faiss")  # type: ignore[arg-type]


def load_faiss(folder: str, kind: str) -> Callable[[int], Any]:
    """Load it; asking takes a vector."""
    import numpy as np

    from tfllm.retrieval import FaissIndex

    index = FaissIndex.load(Path(folder) / f"{kind}.faiss")
    queries = queries_of(np.load(Path(folder) / "vectors.npy", mmap_mode="r"), 200)
    return lambda number: index.search(queries[number][None], FOUND)[0]


def part(action: str, kind: str, folder: str) -> None:
    """Do one thing in this process; print what it took as JSON."""
    started = time.perf_counter()
    exact = kind == "exact"
    told: dict[str, Any] = {}
    if action == "write":
        write_vectors(Path(folder) / "vectors.npy", int(kind))
    elif action == "build":
        build_exact(folder) if exact else build_faiss(folder, kind)
    else:
        ask = load_exact(folder) if exact else load_faiss(folder, kind)
        told["load_s"] = time.perf_counter() - started
        answers, seconds = [], []
        for number in [0, *range(20 if exact else 200)]:
            begun = time.perf_counter()
            answers.append(ask(number))
            seconds.append(time.perf_counter() - begun)
        told["ms"] = 1e3 * statistics.median(seconds[1:])
        told["found"] = None if exact else [row[0].tolist() for row in answers[1:]]
    told |= {"s": time.perf_counter() - started, "gb": memory("VmHWM", "self")}
    print(json.dumps(told))


def memory(field: str, process: str) -> float:
    """Read of a process's memory in GB: `VmRSS` now, `VmHWM` its high-water mark."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0  # it is ending


def memory_of_tree(process: str) -> float:
    """Give what a process and its children have now."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return memory("VmRSS", process) + sum(map(memory_of_tree, children))
    except OSError:  # it has ended
        return 0.0


def in_process(*arguments: str) -> dict[str, Any]:
    """Do a part in a fresh process."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    command = [sys.executable, __file__, "--part", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    together = 0.0
    while process.poll() is None:
        together = max(together, memory_of_tree(str(process.pid)))
        time.sleep(0.05)
    assert process.stdout is not None and process.returncode == 0, command
    return {**json.loads(process.stdout.read().splitlines()[-1]), "together_gb": together}


def measure_million(given: argparse.Namespace) -> None:
    """Print a table: seconds to build and to load, peak memory, milliseconds a query, recall."""
    folder = str(given.folder)
    vectors = given.folder / "vectors.npy"
    if not vectors.exists():
        in_process("write", str(given.count), folder)
    wanted: list[list[int]] | None = None
    print(f"{given.count:,} vectors of {WIDTH} numbers, {vectors.stat().st_size / 1e9:.2f} GB")
    print(
        "| | build s | peak GB | load s | peak GB | ms a query | recall@10 |\n" + "|---" * 7 + "|"
    )
    for kind in given.kinds:
        built = in_process("build", kind, folder)
        asked = in_process("ask", kind, folder)
        if kind == "flat":
            wanted = asked["found"]
        recall = (
            "" if kind == "exact" or wanted is None else f"{overlap(asked['found'], wanted):.3f}"
        )
        gate = f" (with the gate {built['together_gb']:.2f})" if kind == "exact" else ""
        print(
            f"| {kind} | {built['s']:.0f} | {built['gb']:.2f}{gate} | {asked['load_s']:.1f} | "
            f"{asked['gb']:.2f} | {asked['ms']:.1f} | {recall} |",
            flush=True,
        )


def overlap(found: list[list[int]], wanted: list[list[int]]) -> float:
    """Share of the wanted places that were found."""
    pairs = zip(found, wanted, strict=True)
    return statistics.mean(len({*one} & {*other}) / len(other) for one, other in pairs)


# ---------------------------------------------------------------------------------------- squad


def export_answers(folder: str, pretrained: str, reader: str, squad: str, options: str) -> None:
    """Write the bundle, with the recipe."""
    command = [
        sys.executable,
        str(ROOT / "recipes" / "answer_from_corpus.py"),
        *("--corpus", squad, "--retriever", pretrained, "--reader", reader),
        *("--index", f"{folder}/index", "--export_dir", folder, "--export_name", "answers"),
        *json.loads(options),
    ]
    subprocess.run(command, check=True)


def ask_squad(folder: str, squad: str, count: int) -> None:
    """Ask the loaded bundle, and say what the questions took and where it went."""
    from tfllm.data.readers import Squad
    from tfllm.serving import Session, newest_version

    questions = [question["question"] for question in Squad(squad)]
    questions = [questions[i * len(questions) // count] for i in range(count)]
    begun = time.perf_counter()
    session = Session(newest_version(Path(folder) / "answers"))
    print(f"loaded in {time.perf_counter() - begun:.1f} s")

    def request(question: str) -> Any:
        return session.run("answer", {"question": [question]})

    for question in questions[:10]:
        request(question)
    seconds = []
    for question in questions:
        begun = time.perf_counter()
        request(question)
        seconds.append(time.perf_counter() - begun)
    found = statistics.quantiles(seconds, n=20)
    print(f"{count} questions: p50 {1e3 * found[9]:.1f} ms, p95 {1e3 * found[18]:.1f} ms")
    shares: dict[str, list[float]] = collections.defaultdict(list)
    for written in traced(lambda: [request(question) for question in questions[:50]]):
        for name, busy in busy_times(written).items():
            shares[name].append(busy)
    for name, busy in shares.items():
        print(f"{1e3 * statistics.median(busy):8.2f} ms  {name}")


def busy_times(run_metadata: bytes) -> dict[str, float]:
    """Seconds in which an operation of each part was running, from one request's trace.

    Operations are told apart by the names that `CorpusAnswerer` gives its parts.
    """
    from tensorflow.core.protobuf import config_pb2

    spans: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    steps = config_pb2.RunMetadata.FromString(run_metadata).step_stats
    for node in (node for device in steps.dev_stats for node in device.node_stats):
        scopes = node.node_name.split("/")
        name = next((scope for scope in scopes if scope in PARTS), "")
        start = node.all_start_micros * 1000 + node.op_start_rel_nanos
        end = node.all_start_micros * 1000 + node.op_end_rel_nanos
        # Loops and calls last as long as what is in them.
        if name and not node.node_name.endswith(("while", "PartitionedCall")):
            spans[name].append((start, end))
    return {name: 1e-9 * covered(found) for name, found in sorted(spans.items())}


def covered(spans: list[tuple[int, int]]) -> int:
    """How long any of them lasts: overlaps count once."""
    total = until = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, until))
        until = max(until, end)
    return total


def traced(work: Callable[[], Any]) -> Iterator[bytes]:
    """Run requests with a full trace; give each one's `RunMetadata`."""
    from tfllm.serving import _c_api

    library, found = _c_api.library(), []
    run = library.TF_SessionRun
    asked = ctypes.create_string_buffer(b"\x08\x03", 2)  # RunOptions: trace_level FULL_TRACE
    options = _c_api.Buffer(ctypes.cast(asked, ctypes.c_void_p), 2, None)

    def run_traced(session: int, _: Any, *others: Any) -> None:
        with _c_api.owned(library.TF_NewBuffer()) as metadata:
            run(session, ctypes.byref(options), *others[:-2], metadata, others[-1])
            found.append(_c_api.buffer_bytes(metadata))

    library.TF_SessionRun = run_traced
    try:
        work()
    finally:
        library.TF_SessionRun = run
    yield from found


def measure_squad(given: argparse.Namespace) -> None:
    """Export in one process, ask in another that has not imported TensorFlow's Python."""
    with tempfile.TemporaryDirectory() as folder:
        options = json.dumps(given.recipe_flags)
        export_answers(folder, given.pretrained, given.reader, str(given.squad), options)
        command = [
            sys.executable,
            __file__,
            "--ask",
            folder,
            str(given.squad),
            str(given.questions),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(command, env=environment, check=True)


# -------------------------------------------------------------------------------------- weights


def measure_weights(given: argparse.Namespace) -> None:
    """Read the documents that are found, once; then choose with every weight."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    sys.path.insert(0, str(ROOT))
    import numpy as np

    from tfllm import metrics

    for name, rows in readings(given).items():
        references = {str(number): row["golds"] for number, row in enumerate(rows)}
        print(f"{name}: own paragraph found for {100 * np.mean([row['hit'] for row in rows]):.1f}%")
        for how in ("span", "span - none", "log share"):
            cells = []
            for weight in WEIGHTS[name]:
                predictions = {str(n): chosen(row, how, weight) for n, row in enumerate(rows)}
                found = metrics.answers(predictions, references)
                cells.append(f"{weight:g}: {found['exact_match']:.1f}/{found['f1']:.1f}")
            print(f"  {how:12} {'  '.join(cells)}", flush=True)


def chosen(row: dict[str, Any], how: str, weight: float) -> str:
    """Take the answer with the highest score."""
    import numpy as np

    score = row["score"]
    if how == "span - none":
        score = score - row["no_answer_score"]
    elif how == "log share":
        score = -np.logaddexp(0, row["no_answer_score"] - score)
    return row["answer"][int(np.argmax(score + weight * row["retrieval"]))].decode()


def readings(given: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Find documents for the questions, by vectors and by words, and read them."""
    import numpy as np
    import tensorflow as tf

    from tfllm import data, models, retrieval, text, training
    from tfllm.data import readers

    paragraphs = list(readers.SquadParagraphs(str(given.squad)))
    paragraphs = [
        paragraphs[i * len(paragraphs) // given.paragraphs] for i in range(given.paragraphs)
    ]
    texts = [f"{row['title']} {row['text'].strip()}" for row in paragraphs]
    own = {row["text"].strip(): place for place, row in enumerate(paragraphs)}
    asked = [q for q in readers.Squad(str(given.squad)) if q["context"].strip() in own]
    asked = [asked[i * len(asked) // given.questions] for i in range(given.questions)]

    tokenizer = text.load(given.pretrained)
    embedder = models.TextEmbedder.from_pretrained(given.pretrained)
    encoder = data.TextEncoder(data.FastTokenizer.of(tokenizer), 256)
    store = data.build_array_store([{"text": each} for each in texts], encoder)
    plan = data.BucketPlan(store.lengths("input_ids"), 32, None)
    batches = data.RowBatches(store, plan, targets=None, fill_rows=False)
    vectors = training.predict_rows(embedder, batches, progress=False).outputs["vector"]
    search = models.CorpusSearch(
        embedder, vectors, ids=[str(i) for i in range(len(texts))], texts=texts
    )
    reader = models.ContextReader(
        models.QuestionAnswerer.from_pretrained(given.reader),
        text.Preprocessor(text.load(given.reader), sequence_length=given.reader_sequence_length),
        overlap=given.overlap,
        max_question_tokens=given.max_question_tokens,
    )
    preprocess = text.Preprocessor(tokenizer, sequence_length=256)
    answerer = models.CorpusAnswerer(search, preprocess, reader)
    strings = tf.TensorSpec([None], tf.string)
    find = tf.function(
        lambda part: answerer.find(part, given.k, given.k),
        input_signature=[strings],
        autograph=False,
    )
    read = tf.function(
        lambda questions, contexts: reader.read(
            reader.questions(questions), contexts, reader.tokenize(contexts)
        ),
        input_signature=[strings, strings],
        autograph=False,
    )
    bm25 = retrieval.Bm25(texts)

    def by_vectors(question: str) -> Any:
        found = find([question])
        return found.places.numpy()[0], found.scores["retrieval_score"].numpy()[0]

    def by_words(question: str) -> Any:
        places, scores = bm25.search([question], given.k)
        return np.where(places < 0, np.arange(given.k), places)[0], scores[0]

    rows: dict[str, list[dict[str, Any]]] = {"retriever": [], "BM25": []}
    for question in asked:
        for name, find_places in (("retriever", by_vectors), ("BM25", by_words)):
            places, scores = find_places(question["question"])
            contexts = [texts[place] for place in places]
            found = read([question["question"]] * given.k, contexts)
            row = {key: value.numpy() for key, value in found.items()}
            row |= {"retrieval": scores, "golds": question["answers"]}
            rows[name].append(row | {"hit": own[question["context"].strip()] in places})
    return rows


def main() -> None:
    """Be a worker, or measure."""
    if sys.argv[1:2] == ["--part"]:
        return part(*sys.argv[2:])
    if sys.argv[1:2] == ["--ask"]:
        return ask_squad(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True)
    squad = kinds.add_parser("squad")
    squad.add_argument("--pretrained", required=True)
    squad.add_argument("--reader", required=True)
    squad.add_argument("--squad", required=True, type=Path)
    squad.add_argument("--questions", type=int, default=200)
    squad.add_argument(
        "recipe_flags", nargs="*", help="after --: flags of answer_from_corpus.py, --k 3 say"
    )
    squad.set_defaults(work=measure_squad)
    weights = kinds.add_parser("weights")
    weights.add_argument("--pretrained", required=True)
    weights.add_argument("--reader", required=True)
    weights.add_argument("--squad", required=True, type=Path)
    for name, number in SIZES.items():
        weights.add_argument(f"--{name}", type=int, default=number)
    weights.set_defaults(work=measure_weights)
    million = kinds.add_parser("million")
    million.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    million.add_argument("--count", type=int, default=1_000_000)
    million.add_argument("--kinds", nargs="+", default=["exact", "flat", "ivf"])
    million.set_defaults(work=measure_million)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if "folder" in given:
            given.folder = given.folder or Path(folder)
            given.folder.mkdir(parents=True, exist_ok=True)
        given.work(given)


if __name__ == "__main__":
    main()
