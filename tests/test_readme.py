"""The README's code, as it stands there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parent.parent / "README.md"


def block(heading: str) -> str:
    """The Python block under a heading."""
    text = README.read_text(encoding="utf-8")
    section = text[text.index(f"## {heading}\n") :]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A GPT-2 folder as transformers writes one, with room for the example's rows."""
    from transformers import GPT2Config

    from tfllm.models import CausalLM
    from tfllm.text import train_byte_level_bpe

    folder = tmp_path_factory.mktemp("pretrained") / "gpt2"
    tokenizer = train_byte_level_bpe(["the cat sat on the mat and saw the dog"] * 4, 300)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=40, n_embd=16, n_layer=2, n_head=2
    )
    CausalLM.from_config(config).save_pretrained(folder, tokenizer)
    return folder


def run(code: str, folder: Path) -> str:
    (folder / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "example.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Gradients do not exist" not in done.stderr
    return done.stdout


def test_your_own_head(pretrained, tmp_path):
    code = block("Your own head in 40 lines")
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 40
    rng = np.random.default_rng(0)
    words = "the cat sat on the mat and saw the dog".split()
    text = "\n".join(" ".join(rng.choice(words, 12)) for _ in range(600))
    (tmp_path / "my.txt").write_text(text)
    code = code.replace('PRETRAINED = "gpt2"', f"PRETRAINED = {str(pretrained)!r}")
    code = code.replace("model.fit(", "fitted = model.fit(")
    code += "import json\nprint(json.dumps(fitted.history))\n"
    out = run(code, tmp_path)
    assert "savedmodels/mine/1" in out
    history = json.loads(out.splitlines()[-1])
    assert history["loss"][1] < 0.9 * history["loss"][0]
    assert set(history) == {"loss", "accuracy"}


def test_in_python(pretrained, tmp_path):
    code = block("In Python").replace("runs/pretrain_causal_lm/model", str(pretrained))
    out = run(code, tmp_path)
    lines = out.splitlines()
    assert lines[0].startswith(("['", '["'))
    perplexities = out.rpartition("[")[2].rstrip("]\n").split()
    assert len(perplexities) == 2 and all(float(number) > 1 for number in perplexities)
    assert (tmp_path / "my-gpt2" / "model.safetensors").is_file()
