"""The recipe as its user runs it, on small files."""

import ctypes
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfllm import text
from tfllm.models import CausalLM
from tfllm.serving import Session

RECIPES = Path(__file__).parent.parent.parent / "recipes"
NAME = "pretrain_causal_lm"
SMALL = [
    *("--vocabulary_size", 300, "--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16),
    *("--global_batch_size", 8, "--sequence_length", 32, "--max_new_tokens", 6),
]
WORDS = "the cat sat on a mat and the dog saw the cat run to the old house by the sea".split()


def write_corpus(path: Path, seed: int, paragraphs: int = 60) -> Path:
    rng = np.random.default_rng(seed)
    text = "\n\n".join(" ".join(rng.choice(WORDS, 40)) for _ in range(paragraphs))
    path.write_text(text + "\n")
    return path


def give_up_roots_privileges() -> None:
    """Root reads closed files too; without two of its capabilities it is like anybody."""
    drop, override_access, override_reading = 24, 1, 2  # PR_CAPBSET_DROP and what it drops
    libc = ctypes.CDLL(None)
    libc.prctl(drop, override_access)
    libc.prctl(drop, override_reading)


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_text_in_bundle_out(recipe, tmp_path):
    write_corpus(tmp_path / "a.txt", 1)
    write_corpus(tmp_path / "held.txt", 2, 20)
    write_corpus(tmp_path / "test.txt", 3, 20)
    files = ["--train", "a.txt", "--validation", "held.txt", "--test", "test.txt"]
    done = recipe(NAME, *files, *SMALL, "--epochs", 2, "--dropout", 0.1)
    record = done.record

    # The record
    metrics = record["metrics"]
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert 0 < metrics["bits_per_byte"] < 8 and 0 < metrics["gzip_bits_per_byte"] < 8
    assert metrics["test_bits_per_byte"] == pytest.approx(metrics["bits_per_byte"], rel=0.2)
    assert record["export"] == "savedmodels/gpt2-a/1" and record["throughput"] > 0
    run_dir = tmp_path / "runs" / NAME
    assert json.loads((run_dir / "run.json").read_text()) == record

    # What it printed
    assert len(re.findall(r"Epoch \d, step \d+: validation loss [\d.]+, perplexity", done.out)) == 2
    assert done.out.count("sample:") == 2
    assert done.out.count("Prompt") == done.out.count("True text") == 3
    assert "Traceback" not in done.err

    # What it left
    left = tree(run_dir)
    assert {"config.json", "run.json", "model/model.safetensors", "model/tokenizer.json"} <= left
    assert any(name.startswith("tensorboard/validation/") for name in left)
    beside = "README.md models.config monitoring.config docker-compose.yml kubernetes.yaml"
    bundle = {name for name in tree(tmp_path / "savedmodels") if "/tokenizer/" not in name}
    assert bundle == {f"gpt2-a/{name}" for name in beside.split()} | {
        f"gpt2-a/1/{name}"
        for name in (
            "assets.extra/tf_serving_warmup_requests",
            "batching_params.pbtxt",
            "fingerprint.pb",
            "saved_model.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        )
    }
    assert "bits_per_byte" in (tmp_path / "savedmodels/gpt2-a/README.md").read_text()

    # The printed curl's body, through the bundle, says what the saved model says
    (line,) = [line for line in done.out.splitlines() if "curl " in line]
    words = shlex.split(line[line.index("curl ") :])
    assert words[1] == "http://127.0.0.1:8501/v1/models/gpt2-a:predict"
    body = words[words.index("--data") + 1]
    reply = subprocess.run(
        [sys.executable, "-m", "tfllm.serving.session", tmp_path / record["export"]],
        input=body.encode(),
        capture_output=True,
        check=True,
    )
    model = CausalLM.from_pretrained(run_dir / "model")
    tokenizer = text.load(run_dir / "model")
    (prompt,) = json.loads(body)["instances"]
    served = model.signatures(tokenizer, max_new_tokens=6, sampling=None)["generate"]
    with Session(tmp_path / record["export"]) as session:
        settings = {"temperature": [0.7], "top_k": [50], "top_p": [1.0], "seed": [0]}
        request = {"text": [prompt], "max_new_tokens": [6], "stop": [[""]], **settings}
        in_bundle = session.run("generate", request)["text"].tolist()
        signature = session.signatures["serving_default"]
        assert list(signature.inputs) == list(signature.outputs) == ["text"]
        assert signature.inputs["text"].shape == signature.outputs["text"].shape == (None,)
    in_memory = served(**{name: tf.constant(value) for name, value in request.items()})
    assert json.loads(reply.stdout)["predictions"] == [t.decode() for t in in_bundle]
    assert in_memory["text"].numpy().tolist() == in_bundle


@pytest.mark.slow
def test_going_on_from_a_pretrained_folder(recipe, tmp_path, nano_gpt2):
    train = write_corpus(tmp_path / "a.txt", 1)
    flags = ["--train", train, "--pretrained", nano_gpt2, "--sequence_length", 16]
    record = recipe(NAME, *flags, "--max_steps", 2, "--export_name", "mine").record
    assert record["export"] == "savedmodels/mine/1"
    saved = CausalLM.from_pretrained(tmp_path / "runs" / NAME / "model")
    before = CausalLM.from_pretrained(nano_gpt2)
    assert saved.config.vocab_size == before.config.vocab_size
    difference = np.abs(saved.get_weights()[0] - before.get_weights()[0]).max()
    assert 0 < difference < 0.1


@pytest.mark.slow
def test_lower_layers_stay_and_others_learn_slower(recipe, tmp_path, nano_gpt2):
    train = write_corpus(tmp_path / "a.txt", 1)
    flags = ["--train", train, "--pretrained", nano_gpt2, "--sequence_length", 16, "--xla"]
    flags += ["--freeze_layers", 0, "--layer_decay", 0.5, "--warmup_fraction", 0.5]
    done = recipe(NAME, *flags, "--max_steps", 2, "--learning_rate", 0.01)
    assert re.search(r"[\d,]+ of [\d,]+ parameters train", done.out)
    before = CausalLM.from_pretrained(nano_gpt2)
    after = CausalLM.from_pretrained(tmp_path / "runs" / NAME / "model")
    for a, b in zip(before.weights, after.weights, strict=True):
        frozen = any(part in a.name for part in ("/wte/", "/wpe/"))
        assert np.array_equal(a.numpy(), b.numpy()) == frozen, a.name
    flags += ["--max_steps", 2]
    error = recipe(NAME, *flags, "--freeze_layers", 1).err
    assert "--layer_decay 0.5 would slow nothing down" in error
    error = recipe(NAME, *flags, "--profile_steps", "5-9").err
    assert "--profile_steps 5-9 lies beyond the end of the run, which has 2 steps" in error


@pytest.mark.slow
def test_adapters_and_an_average_end_in_the_export(recipe, tmp_path, nano_gpt2):
    train = write_corpus(tmp_path / "a.txt", 1)
    flags = ["--train", train, "--pretrained", nano_gpt2, "--sequence_length", 16]
    flags += ["--lora_rank", 2, "--average_momentum", 0.9, "--strategy", "mirrored"]
    flags += ["--lora_dropout", 0.1, "--lora_targets", "c_attn", "mlp.c_proj"]
    done = recipe(NAME, *flags, "--max_steps", 4, "--learning_rate", 0.01)
    assert re.search(r"LoRA: [\d,]+ of [\d,]+ parameters train", done.out)
    run_dir = tmp_path / "runs" / NAME
    assert "adapter_model.safetensors" in tree(run_dir / "adapters")
    before, after = CausalLM.from_pretrained(nano_gpt2), CausalLM.from_pretrained(run_dir / "model")
    same = [
        np.array_equal(a, b) for a, b in zip(before.get_weights(), after.get_weights(), strict=True)
    ]
    assert not all(same) and sum(same) > len(same) // 2  # only projections have moved
    assert done.record["export"] == "savedmodels/gpt2-a/1"


@pytest.fixture
def nano_gpt2(tmp_path) -> Path:
    from transformers import GPT2Config

    tokenizer = text.train_byte_level_bpe([" ".join(WORDS)] * 3, 290)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=24, n_embd=8, n_layer=1, n_head=2
    )
    CausalLM.from_config(config).save_pretrained(tmp_path / "nano", tokenizer)
    return tmp_path / "nano"


@pytest.mark.slow  # tests/training/test_loop.py tries signals by default
def test_sigterm_saves_and_the_same_command_goes_on(recipe, tmp_path):
    write_corpus(tmp_path / "a.txt", 1)
    flags = ["--train", "a.txt", *SMALL, "--epochs", 3000, "--max_steps", 400, "--run_dir", "r"]
    command = [sys.executable, str(RECIPES / f"{NAME}.py"), *map(str, flags)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            process.send_signal(signal.SIGTERM)
            break
    _, error = process.communicate(timeout=300)
    assert process.returncode == 143
    assert "the same command with --run_dir r goes on from it" in error
    assert any(name.startswith("checkpoints/step-") for name in tree(tmp_path / "r"))
    assert "r/run.json" not in tree(tmp_path)
    done = recipe(NAME, *flags)
    assert re.search(r"Going on from step \d+ of 400", done.out)
    assert done.record["export"] == "savedmodels/gpt2-a/1"


@pytest.mark.slow
def test_a_full_disk_at_export_is_said_and_the_same_command_ends_the_run(recipe, tmp_path):
    write_corpus(tmp_path / "a.txt", 1)
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(tmp_path / "disk")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine doesn't let us mount a tiny disk")
    try:
        flags = ["--train", "a.txt", *SMALL, "--max_steps", 4, "--run_dir", "r"]
        done = recipe(NAME, *flags, "--export_dir", "disk/models")
        assert done.code == 2 and "No space left" in done.err.splitlines()[-1]
        assert "Traceback" not in done.err
        assert not tree(tmp_path / "disk") and "r/run.json" not in tree(tmp_path)
        remount = ["mount", "-o", "remount,size=8m", str(tmp_path / "disk")]
        subprocess.run(remount, check=True)
        done = recipe(NAME, *flags, "--export_dir", "disk/models")
        assert "Going on from step 4 of 4" in done.out
        assert (tmp_path / done.record["export"] / "saved_model.pb").exists()
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_a_dry_run_leaves_nothing(recipe, tmp_path):
    write_corpus(tmp_path / "a.txt", 1)
    done = recipe(NAME, "--train", "a.txt", *SMALL, "--dry_run")
    assert done.code == 0 and re.search(r"First row: '.*(cat|dog|house)", done.out)
    assert tree(tmp_path) == {"a.txt"}


class TestBadInput:
    """One clear line, exit code 2, nothing written."""

    @pytest.fixture
    def refused(self, recipe, tmp_path):
        write_corpus(tmp_path / "good.txt", 1)

        cache = Path(os.environ["TFLLM_CACHE_DIR"])

        def run(*flags: object) -> str:
            before = tree(tmp_path)
            stores = tree(cache)
            done = recipe(NAME, *SMALL, *flags)
            assert tree(cache) == stores
            assert done.code == 2, done.err
            assert len(done.err.splitlines()) == 1, done.err
            assert tree(tmp_path) == before
            assert not (tmp_path / "runs").exists() and not (tmp_path / "savedmodels").exists()
            return done.err

        return run

    def test_files(self, refused, tmp_path):
        (tmp_path / "empty.txt").touch()
        (tmp_path / "latin.txt").write_bytes("Zürich".encode("latin-1"))
        assert "--train 'no.txt' does not exist" in refused("--train", "no.txt")
        assert "'*.md' matches no file" in refused("--train", "*.md")
        assert "empty.txt is empty" in refused("--train", "empty.txt")
        error = refused("--train", "good.txt", "--validation", "latin.txt")
        assert "latin.txt is not UTF-8: byte 0xfc at offset 1" in error

    def test_a_file_that_cannot_be_read(self, recipe, tmp_path):
        write_corpus(tmp_path / "good.txt", 1).chmod(0)
        done = recipe(NAME, "--train", "good.txt", before=give_up_roots_privileges)
        assert done.code == 2 and len(done.err.splitlines()) == 1
        assert "good.txt can't be read: Permission denied" in done.err
        assert tree(tmp_path) == {"good.txt"}

    def test_text_shorter_than_one_block(self, refused, tmp_path):
        (tmp_path / "short.txt").write_text("a few words")
        error = refused("--train", "good.txt", "--validation", "short.txt")
        assert "--validation is shorter than one block" in error

    def test_names_and_folders(self, refused, tmp_path):
        (tmp_path / "file").touch()
        train = ("--train", "good.txt")
        assert "a bundle's name must be" in refused(*train, "--export_name", "../other")
        assert "file is a file" in refused(*train, "--run_dir", "file/run")
        assert "file is a file" in refused(*train, "--export_dir", "file/models")

    def test_pretrained_folders(self, refused, tmp_path, nano_gpt2):
        train = ("--train", "good.txt")
        error = refused(*train, "--pretrained", nano_gpt2, "--sequence_length", 25)
        assert "--sequence_length is above the 24 positions" in error
        (nano_gpt2 / "model.safetensors").unlink()
        assert "holds no weights" in refused(*train, "--pretrained", nano_gpt2)
        (nano_gpt2 / "config.json").write_text('{"model_type": "bert"}')
        assert "of the type 'bert'" in refused(*train, "--pretrained", nano_gpt2)

    def test_numbers(self, refused):
        train = ("--train", "good.txt")
        assert "--hidden_dim must be a multiple of --num_heads 5" in refused(
            *train, "--num_heads", 5
        )
        assert "--dropout must be at least 0" in refused(*train, "--dropout", 1.5)
        assert "--lora_targets needs --lora_rank" in refused(*train, "--lora_targets", "c_attn")
        assert "--lora_rank must be at least 1" in refused(*train, "--lora_rank", 0)
        assert "--vocabulary_size is below 257" in refused(*train, "--vocabulary_size", 100)
        assert "multiple of --accumulate_steps 3" in refused(*train, "--accumulate_steps", 3)
        assert "--max_new_tokens must be at least 1 and" in refused(*train, "--max_new_tokens", 99)


def test_help_imports_no_tensorflow():
    code = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(RECIPES / (NAME + '.py'))!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "Passes over the training text" in done.stdout
