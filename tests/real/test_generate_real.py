"""The recipe of generation with a really trained model: 10,000 sums out of a file of prompts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfllm import text
from tfllm.models import CausalLM

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "generate.py"


@pytest.fixture(scope="module")
def adder(data, tmp_path_factory) -> Path:
    """The model of ten digits, with all other bytes behind them: they are never likelier."""
    folder = tmp_path_factory.mktemp("adder")
    alphabet = text.train_byte_level_bpe(["the cat"] * 3, 260).fast.get_vocab()
    digits = [str(digit) for digit in range(10)]
    others = sorted(word for word in alphabet if len(word) == 1 and word not in digits)
    vocabulary = {word: number for number, word in enumerate([*digits, *others, "!!"])}
    assert len(vocabulary) == 257
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n! !\n")
    model = CausalLM.from_pretrained(data / "weights" / "gpt2-nano-adder")
    sources = [[digit] for digit in range(10)] + [[0]] * 247
    model.with_vocabulary(sources).save_pretrained(folder / "model", text.load(folder))
    return folder


def run(adder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, RECIPE, adder / "model", "--max_new_tokens", 3, *words]
    return subprocess.run(
        [*map(str, command)], cwd=adder, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, env=os.environ,
    )  # fmt: skip


def test_every_sum_in_a_file_is_right(adder):
    pairs = [(a, b) for a in range(100) for b in range(100)]
    prompts = [f"{a:02}{b:02}" for a, b in pairs]
    (adder / "p.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    done = run(adder, "--file", "p.txt", "--output", "sums.jsonl", "--batch_size", 1000)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = [json.loads(line) for line in (adder / "sums.jsonl").read_text().splitlines()]
    wanted = [f"{a + b:03}"[::-1] for a, b in pairs]
    assert [line["prompt"] for line in lines] == prompts
    assert (
        sum(line["completion"] == sum_ for line, sum_ in zip(lines, wanted, strict=True)) == 10**4
    )


@pytest.mark.slow
def test_one_prompt_and_its_beams(adder):
    assert run(adder, "--prompt", "5678").stdout == "431\n"
    done = run(adder, "--prompt", "5678", "--num_beams", 3, "--num_returned", 2)
    assert done.stdout.startswith("431\n") and len(done.stdout.split()) == 2


@pytest.mark.slow
def test_what_does_not_fit(adder):
    done = run(adder, "--prompt", "56781")
    assert done.returncode == 2 and done.stderr == (
        "error: --prompt: the prompt has 5 tokens, and with --max_new_tokens 3 the model's 6 "
        "positions have room for 4. Shorten it, or give --slide to drop its beginning\n"
    )
    done = run(adder, "--prompt", "")
    assert done.returncode == 2 and "this model has no start token" in done.stderr
