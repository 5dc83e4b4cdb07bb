"""The recipe as its user runs it, on small files."""

import gc
import json
import math
import re
import signal
import sys
import warnings
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig, GPT2Config

from tfllm import cli, text
from tfllm.models import CausalLM, MaskedLM, TextClassifier
from tfllm.serving import Session

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "pretrain_masked_lm.py"
NAME = RECIPE.stem
TINY = [
    *("--vocabulary_size", 200, "--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16),
    *("--global_batch_size", 8, "--sequence_length", 32),
]
WORDS = "the cat sat on a mat and the dog saw the cat run to the old house by the sea".split()


def write_texts(path: Path, seed: int, paragraphs: int = 60) -> Path:
    """Paragraphs of three lines, documents of `--documents blank_line`."""
    rng = np.random.default_rng(seed)
    rows = ["\n".join(" ".join(rng.choice(WORDS, 9)) for _ in range(3)) for _ in range(paragraphs)]
    path.write_text("\n\n".join(rows) + "\n")
    return path


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def recipe_module():
    spec = spec_from_file_location(NAME, RECIPE)
    module = module_from_spec(spec)
    sys.modules[NAME] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("passage", "masked"),
    [
        ("a b c d e f g", "a b c d [MASK] f g"),
        # An address of a page makes no Chinese of it.
        (f"see {'x' * 99} a b c d", f"see {'x' * 99} a b [MASK] d"),
        ("周围没什么商场，晚上吃完饭", "周围没什[MASK]商场，晚上[MASK]完饭"),
        ("", "[MASK]"),
    ],
)
def test_what_is_hidden_of_a_sample(passage, masked, monkeypatch):
    monkeypatch.setitem(sys.modules, NAME, None)  # taken back at the end
    assert recipe_module().masked_and_true(passage, "[MASK]") == (masked, passage)


@pytest.fixture
def inside(tmp_path, monkeypatch, capsys):
    """Runs the recipe in this process, where TensorFlow is already: exit code, stdout, stderr."""
    spec = spec_from_file_location(NAME, RECIPE)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)

    def run(*flags: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [str(RECIPE), *map(str, flags)])
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            # A process lets go of its run folder when it ends, and this one goes on.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                cli.main(module.Config, module.main, str(RECIPE))
            except SystemExit as end:
                code = end.code
            gc.collect()
        return code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)


def record_of(done: tuple[int, str, str]) -> dict:
    assert done[0] == 0, done[2]
    return json.loads(done[1].splitlines()[-1])


def tags(folder: Path) -> set[str]:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return set(events.Tags()["tensors"])


def keys_of_a_bert_with_one_block() -> set[str]:
    """Those of transformers' `BertForPreTraining`, from which `BertForMaskedLM` takes its own."""
    normal = {f"{part}.{end}" for part in ("LayerNorm",) for end in ("weight", "bias")}
    tables = {f"{name}_embeddings.weight" for name in ("word", "position", "token_type")}
    dense = [f"attention.self.{name}" for name in ("query", "key", "value")]
    dense += ["attention.output.dense", "intermediate.dense", "output.dense"]
    block = {f"{name}.{end}" for name in dense for end in ("weight", "bias")}
    block |= {f"{part}.{name}" for part in ("attention.output", "output") for name in normal}
    transform = {f"transform.{name}" for name in normal | {"dense.weight", "dense.bias"}}
    return (
        {f"bert.embeddings.{name}" for name in normal | tables}
        | {f"bert.encoder.layer.0.{name}" for name in block}
        | {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
        | {f"cls.predictions.{name}" for name in transform | {"bias"}}
        | {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}
    )


def test_text_in_folder_and_bundle_out(recipe, tmp_path):
    write_texts(tmp_path / "a.txt", 1)
    write_texts(tmp_path / "held.txt", 2, 6)
    files = ["--train", "a.txt", "--validation", "held.txt", "--test", "held.txt"]
    how = ["--documents", "blank_line", "--objectives", "masked_lm", "sentence_order=0.5"]
    done = recipe(NAME, *files, *how, *TINY, "--epochs", 2, "--dropout", 0.1)
    record, run_dir = done.record, tmp_path / "runs" / NAME

    # The record
    found = record["metrics"]
    both = found["masked_lm_loss"] + 0.5 * found["sentence_order_loss"]
    assert found["loss"] == pytest.approx(both) and found["test_loss"] == found["loss"]
    assert found["masked_perplexity"] == pytest.approx(math.exp(found["masked_lm_loss"]))
    for name in ("masked_lm_accuracy", "sentence_order_accuracy", "unigram_accuracy"):
        assert 0 <= found[name] <= 1
    assert found["train_documents"] == 60 and record["throughput"] > 0
    assert json.loads((run_dir / "run.json").read_text()) == record

    # What it printed: the baseline once, all numbers after each epoch, texts with words filled in
    share = f"{found['unigram_accuracy']:.1%}"
    assert f"Guessing the commonest word is right for {share} of the masks." in done.out
    facts = r"masked lm accuracy [\d.]+, sentence order loss [\d.]+, sentence order accuracy"
    assert len(re.findall(rf"Epoch \d, step \d+: validation loss [\d.]+, .*{facts}", done.out)) == 2
    assert len(re.findall(r"sample: \w.*\[MASK\].* ▸ [^\[]+\n", done.out)) == 2
    assert done.out.count("  Row: ") == done.out.count("  Truth: ") == 3
    curves = {f"{o}_{end}" for o in ("masked_lm", "sentence_order") for end in ("loss", "accuracy")}
    assert curves < tags(run_dir / "tensorboard" / "train")
    drawn = tags(run_dir / "tensorboard" / "validation")
    assert drawn == curves | {"loss", "masked_perplexity", "sample"}

    # The folder: a backbone for other recipes, and PyTorch's names for transformers
    weights = run_dir / "model" / "model.safetensors"
    from safetensors import safe_open

    with safe_open(weights, "np") as file:
        assert set(file.keys()) == keys_of_a_bert_with_one_block()
    config = json.loads((run_dir / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForPreTraining"] and config["model_type"] == "bert"
    classifier = TextClassifier.from_pretrained(run_dir / "model", labels=("a", "b"))
    model, tokenizer = MaskedLM.from_pretrained(run_dir / "model"), text.load(run_dir / "model")
    table = model.backbone.bert.embeddings.weight.numpy()
    np.testing.assert_array_equal(classifier.backbone.bert.embeddings.weight.numpy(), table)

    # The bundle answers as the folder does
    preprocess = text.Preprocessor(tokenizer, sequence_length=32)
    served = model.signatures(preprocess)
    texts = ["the [MASK] sat on the [MASK] by the sea", "no mask"]
    with Session(tmp_path / record["export"]) as session:
        assert set(session.signatures) == {
            "serving_default", "fill_mask", "encode", "tokens", "tokenize"
        }  # fmt: skip
        filled = session.run("serving_default", {"text": texts})["text"].tolist()
        guesses = session.run("fill_mask", {"text": texts, "k": [2, 2]})
        vectors = session.run("encode", {"text": texts})["vector"]
    assert filled == served["serving_default"](tf.constant(texts))["text"].numpy().tolist()
    words = [row[0].decode() for row in guesses["tokens"][0]]
    assert filled[0].decode() == "the {} sat on the {} by the sea".format(*words)
    assert filled[1] == b"no mask" and guesses["tokens"].shape == (2, 2, 2)
    np.testing.assert_allclose(
        vectors, served["encode"](tf.constant(texts))["vector"].numpy(), atol=1e-5
    )


@pytest.fixture
def nano_bert(tmp_path) -> Path:
    """A folder with a BERT that has 24 positions, and pieces of most words."""
    tokenizer = text.train_wordpiece([" ".join(WORDS)] * 3, 50)
    sizes = BertConfig(
        vocab_size=tokenizer.vocabulary_size,
        max_position_embeddings=24,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    MaskedLM.from_config(sizes).save_pretrained(tmp_path / "nano", tokenizer)
    return tmp_path / "nano"


@pytest.mark.slow
def test_going_on_with_new_words(inside, tmp_path, nano_bert):
    write_texts(tmp_path / "a.txt", 1)
    flags = ["--train", "a.txt", "--pretrained", "nano", "--sequence_length", 24, "--new_words", 3]
    done = inside(*flags, "--max_steps", 2, "--export_name", "mine", "--documents", "blank_line")
    record = record_of(done)
    assert record["export"] == "savedmodels/mine/1"
    new = int(re.search(r"Vocabulary: (\d+) new words, 50 old ones", done[1])[1])
    assert new >= 3
    old, folder = MaskedLM.from_pretrained(nano_bert), tmp_path / "runs" / NAME / "model"
    model, tokenizer = MaskedLM.from_pretrained(folder), text.load(folder)
    assert model.config.vocab_size == tokenizer.vocabulary_size == old.config.vocab_size + new
    pieces = [text.load(f).fast.encode("house").tokens[1:-1] for f in (nano_bert, folder)]
    assert len(pieces[0]) > 1 and pieces[1] == ["house"]
    before, after = (m.backbone.bert.embeddings.weight.numpy() for m in (old, model))
    moved = np.abs(after[: len(before)] - before)
    assert 0 < moved.max() < 1e-3  # two steps of the pretrained default, not from scratch


@pytest.mark.slow
def test_adapters_with_a_head_of_their_own(inside, tmp_path, nano_bert):
    write_texts(tmp_path / "a.txt", 1)
    flags = ["--train", "a.txt", "--pretrained", "nano", "--sequence_length", 24]
    flags += ["--documents", "blank_line", "--objectives", "masked_lm", "next_sentence"]
    flags += ["--lora_rank", 2, "--average_momentum", 0.9, "--max_steps", 3]
    done = inside(*flags, "--learning_rate", 0.01)
    record_of(done)
    assert "holds no head for pairs" in done[1] and "LoRA: " in done[1]
    run_dir = tmp_path / "runs" / NAME
    assert "adapter_model.safetensors" in tree(run_dir / "adapters")
    old = MaskedLM.from_pretrained(nano_bert).backbone.bert.embeddings.weight
    new = MaskedLM.from_pretrained(run_dir / "model")
    np.testing.assert_array_equal(new.backbone.bert.embeddings.weight.numpy(), old.numpy())
    assert new.pair_head is not None and np.abs(new.pair_head.weights[-1].numpy()).max() > 0


@pytest.mark.slow
def test_chinese_words(inside, tmp_path):
    if find_spec("jieba") is None:
        pytest.skip("no jieba: install tfllm[chinese]")
    words = "酒店 房间 很 干净 服务 不错 早餐 丰富 位置 方便 价格 便宜 我们 下次 还 会 再来".split()
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(words, 18)) + "。" for _ in range(40)]
    (tmp_path / "zh.txt").write_text("\n".join(rows), encoding="utf-8")
    flags = ["--train", "zh.txt", "--documents", "line", "--words", "chinese", *TINY]
    done = inside(*flags, "--validation_fraction", 0.2, "--max_steps", 2)
    record = record_of(done)
    assert 20 < record["metrics"]["train_documents"] < 40
    sample = re.search(r"sample: (.*) ▸ (.*)", done[1])
    assert sample[1].count("[MASK]") > 1 and re.fullmatch(r"[^\[]+", sample[2])
    folder = tmp_path / "runs" / NAME / "model"
    assert text.load(folder).fast.encode("酒店").tokens[1:-1] == ["酒", "店"]


@pytest.mark.slow
def test_neighbours_are_learnt(inside, tmp_path):
    """Words that only their neighbours tell: a model that copies or counts knows none of them."""
    letters = "abcdefghijklmnopqrst"
    rng = np.random.default_rng(0)
    rows = [" ".join(letters[(s + i) % 20] for i in range(24)) for s in rng.integers(20, size=600)]
    (tmp_path / "cycle.txt").write_text("\n".join(rows))
    sizes = ["--num_layers", 2, "--num_heads", 4, "--hidden_dim", 64, "--sequence_length", 32]
    flags = ["--train", "cycle.txt", "--documents", "line", "--vocabulary_size", 100, *sizes]
    done = inside(*flags, "--global_batch_size", 32, "--epochs", 100, "--max_steps", 400)
    metrics = record_of(done)["metrics"]
    assert metrics["unigram_accuracy"] < 0.15 and metrics["masked_lm_accuracy"] > 0.9


@pytest.mark.slow
def test_a_dry_run_with_new_words_leaves_nothing(inside, tmp_path, nano_bert):
    write_texts(tmp_path / "a.txt", 1)
    before = tree(tmp_path)
    flags = ["--train", "a.txt", "--documents", "line", "--pretrained", "nano", *TINY[-4:]]
    code, out, err = inside(*flags, "--sequence_length", 24, "--new_words", 3, "--dry_run")
    assert code == 0, err
    assert re.search(r"Vocabulary: [3-9] new words, 50 old ones", out)
    assert re.search(r"First row: '\[CLS\] .*\[MASK\].*'", out)
    assert "bundle answers as the model does" in out and tree(tmp_path) == before


class TestBadInput:
    """One clear line, exit code 2, nothing written."""

    @pytest.fixture
    def refused(self, inside, tmp_path):
        write_texts(tmp_path / "good.txt", 1)

        def run(*flags: object) -> str:
            before = tree(tmp_path)
            code, _, err = inside("--train", "good.txt", *flags)
            assert code == 2, err
            (line,) = [line for line in err.splitlines() if line.strip()]
            assert tree(tmp_path) == before
            return line

        return run

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("next", "--objectives must be of masked_lm, next_sentence, sentence_order"),
            ("masked_lm next_sentence sentence_order", "alone or with one of next_sentence and"),
            ("sentence_order", "must be masked_lm, alone or with one of .*Received: sentence_ord"),
            ("masked_lm=0", "must be NAME, or NAME=SHARE with a share above 0. Received: masked_"),
            ("masked_lm=", "must be NAME, or NAME=SHARE"),
            ("masked_lm=nan", "must be NAME, or NAME=SHARE"),
            ("masked_lm=-1", "must be NAME, or NAME=SHARE"),
            (f"masked_lm={'9' * 400}", "must be NAME, or NAME=SHARE"),
            ("=x", "must be NAME, or NAME=SHARE with a share above 0. Received: =x"),
            ("=1", "must be of masked_lm, .*Received: ''"),
            ("masked_lm masked_lm=2", "names masked_lm twice. Received: masked_lm=2"),
        ],
    )
    def test_objectives(self, refused, given, message):
        assert re.search(message, refused("--objectives", *given.split()))

    def test_numbers(self, refused):
        for rate in (0, 0.6, -0.1):
            error = refused("--mask_rate", rate)
            assert "--mask_rate must be above 0 and at most 0.5. Received: " in error
        assert "--mask_rate must be a finite number" in refused("--mask_rate", "nan")
        assert "--xla needs rows with equally many masks" in refused("--xla")
        assert "--vocabulary_size must be at least 100" in refused("--vocabulary_size", 99)
        assert "--hidden_dim must be a multiple of" in refused("--hidden_dim", 30)
        assert "--new_words needs --pretrained" in refused("--new_words", 3)
        pretrained = ("--pretrained", "nano")
        assert "--num_layers is for a model from" in refused(*pretrained, "--num_layers", 2)
        error = refused(*pretrained, "--new_words", 3, "--freeze_layers", 0)
        assert "--new_words would never be learnt" in error
        assert "invalid choice 'letter'" in refused("--mask_unit", "letter")

    def test_documents_that_hold_no_pairs(self, refused):
        pairs = ("--objectives", "masked_lm", "next_sentence", *TINY)
        error = refused(*pairs, "--documents", "line")
        assert "--train: --objectives next_sentence needs sentences that follow each" in error
        error = refused(*pairs, "--validation", "good.txt")
        assert "--train: " in error and "only one document has two lines or more" in error

    def test_files(self, refused, tmp_path):
        (tmp_path / "blank.txt").write_text(" \n\n")
        assert "holds nothing but white space" in refused("--validation", "blank.txt")
        assert "'no.txt' does not exist" in refused("--validation", "no.txt")
        assert "a bundle's name must be" in refused(
            "--documents", "line", "--export_name", "../other"
        )

    def test_pretrained_folders(self, refused, tmp_path, nano_bert):
        how = ("--documents", "line", "--pretrained", "nano")
        error = refused(*how, "--sequence_length", 25)
        assert "--sequence_length is above the 24 positions of nano. Received: 25" in error
        assert "--freeze_layers 0 to 1" in refused(*how, "--freeze_layers", 2, TINY[-2], 24)
        write_without_mask(nano_bert)
        assert "the vocabulary has no [MASK] token" in refused(*how, TINY[-2], 24)

    def test_a_gpt2(self, refused, tmp_path):
        tokenizer = text.train_byte_level_bpe([" ".join(WORDS)] * 3, 290)
        sizes = GPT2Config(
            vocab_size=tokenizer.vocabulary_size, n_positions=32, n_embd=8, n_layer=1, n_head=2
        )
        CausalLM.from_config(sizes).save_pretrained(tmp_path / "gpt2", tokenizer)
        how = ("--documents", "line", "--pretrained", "gpt2")
        error = refused(*how, "--sequence_length", 32)
        assert "GPT-2 has no head for masked words. Take one of: bert, roberta" in error
        error = refused(*how, "--sequence_length", 32, "--new_words", 2)
        assert "--new_words extends WordPiece vocabularies" in error


def write_without_mask(folder: Path) -> None:
    """Rename the vocabulary's mask, wherever the folder's files tell of it."""
    for path in folder.glob("*.json"):
        if path.name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            found = json.loads(path.read_text().replace("[MASK]", "[HIDE]"))
            if path.name == "tokenizer.json":
                kept = [one for one in found["added_tokens"] if one["content"] != "[HIDE]"]
                found["added_tokens"] = kept
            found.pop("mask_token", None)
            path.write_text(json.dumps(found))
