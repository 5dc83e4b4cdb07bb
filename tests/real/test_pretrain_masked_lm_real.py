"""The recipe of masked pretraining on real text, and its folder in PyTorch's hands."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfllm import text
from tfllm.models import MaskedLM

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "pretrain_masked_lm.py"
SMALL = "--num_layers 1 --num_heads 2 --hidden_dim 32 --sequence_length 64".split()
PROGRAM = """
import sys
import numpy as np
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
model, report = AutoModelForMaskedLM.from_pretrained(sys.argv[1], output_loading_info=True)
assert not report["missing_keys"] and not report["mismatched_keys"], report
batch = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[3], return_tensors="pt")
with torch.no_grad():
    logits = model.eval()(**batch).logits
np.savez(sys.argv[2], ids=batch["input_ids"].numpy(), logits=logits.numpy())
"""


def run(folder: Path, *flags: object) -> tuple[dict, str]:
    command = [sys.executable, RECIPE, *SMALL, *flags]
    done = subprocess.run(
        [*map(str, command)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [["masked_lm"], ["masked_lm", "next_sentence=0.5"]])
def test_pytorch_reads_the_folder(data, tmp_path, objectives):
    python = os.environ.get("TFLLM_TORCH_PYTHON")
    if not python:
        pytest.skip("no PyTorch: set TFLLM_TORCH_PYTHON to a Python with torch and transformers")
    train = data / "lm" / "tinyshakespeare.txt"
    flags = ["--train", train, "--documents", "blank_line", "--objectives", *objectives]
    record, _ = run(tmp_path, *flags, "--vocabulary_size", 1000, "--max_steps", 200)
    metrics = record["metrics"]
    assert metrics["unigram_accuracy"] > 0.02 and metrics["masked_lm_loss"] < math.log(1000)
    folder, sentence = tmp_path / "runs" / RECIPE.stem / "model", "Speak, [MASK], of the king."
    program = [python, "-c", PROGRAM, folder, tmp_path / "theirs.npz", sentence]
    subprocess.run([*map(str, program)], check=True, capture_output=True)
    theirs = np.load(tmp_path / "theirs.npz")
    ids = theirs["ids"].astype(np.int32)
    assert text.load(folder).fast.encode(sentence).ids == ids[0].tolist()
    ours = MaskedLM.from_pretrained(folder)({"input_ids": ids}).numpy()
    assert np.abs(ours - theirs["logits"]).max() <= 1e-5 * np.abs(theirs["logits"]).max()


@pytest.mark.slow
def test_words_of_hotel_reviews(data, tmp_path):
    (source,) = (data / "classification" / "chnsenticorp_hotel").glob("*.csv")
    reviews = [line.split(",", 1)[1] for line in source.read_text("utf-8").splitlines()[1:400]]
    (tmp_path / "reviews.txt").write_text("\n".join(reviews), encoding="utf-8")
    flags = ["--train", "reviews.txt", "--documents", "line", "--words", "chinese"]
    record, printed = run(tmp_path, *flags, "--vocabulary_size", 4000, "--max_steps", 20)
    assert record["metrics"]["train_documents"] > 300
    masked, filled = re.search(r"sample: (.*) ▸ (.*)", printed).groups()
    assert masked.count("[MASK]") == 8 and "[MASK]" not in filled
