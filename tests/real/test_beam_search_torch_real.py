"""Beam search beside PyTorch's `generate`, sequences and scores."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm.generation import Beam, beam_search
from tfllm.models import CausalLM

EOS, NEW = 0, 8
PENALTIES, EARLY = (0.0, 1.0, 2.0), (False, True, "never")
CLOSE = 1e-4  # of two scores: which is better is then rounding
PROGRAM = """
import json, sys
import torch
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
found = []
for request in json.loads(sys.argv[2]):
    ids = torch.tensor(request.pop("prompts"))
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
            eos_token_id=0, return_dict_in_generate=True, output_scores=True, **request,
        )
    found.append([out.sequences[:, ids.shape[1]:].tolist(), out.sequences_scores.tolist()])
print(json.dumps(found))
"""


def model_with_ends() -> CausalLM:
    """Random weights under which texts end at all lengths."""
    keras.utils.set_random_seed(5)
    config = GPT2Config(
        vocab_size=23, n_positions=40, n_embd=16, n_layer=2, n_head=2, eos_token_id=EOS
    )
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(5)
    for weight in model.backbone.transformer.weights:
        weight.assign(weight + 0.3 * rng.standard_normal(weight.shape).astype(np.float32))
    return model


def answers_of_torch(python: str, folder: Path, requests: list[dict]) -> list:
    program = [python, "-c", PROGRAM, str(folder), json.dumps(requests)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_beams_are_those_of_pytorch(tmp_path):
    python = os.environ.get("TFLLM_TORCH_PYTHON")
    if not python:
        pytest.skip("no PyTorch: set TFLLM_TORCH_PYTHON to a Python with torch and transformers")
    model = model_with_ends()
    model.save_pretrained(tmp_path / "model")
    prompts = np.random.default_rng(1).integers(1, 23, (7, 5)).tolist()
    kinds = [(penalty, early) for penalty in PENALTIES for early in EARLY]
    requests = [
        {
            "prompts": prompts,
            "max_new_tokens": NEW,
            "num_beams": 4,
            "num_return_sequences": 4,
            "length_penalty": penalty,
            "early_stopping": early,
        }
        for penalty, early in kinds
    ]
    theirs = answers_of_torch(python, tmp_path / "model", requests)
    lengths, compared = set(), 0
    for (penalty, early), (sequences, wanted_scores) in zip(kinds, theirs, strict=True):
        beam = Beam(4, length_penalty=penalty, num_returned=4, early_stopping=early)
        ids, scores = beam_search(
            model, tf.constant(prompts, tf.int32), max_new_tokens=NEW, beam=beam, eos_id=EOS
        )
        wanted = np.reshape(wanted_scores, scores.shape)
        np.testing.assert_allclose(scores, wanted, atol=CLOSE)
        for row, best in enumerate(ids.to_list()):
            apart = np.abs(np.diff(wanted[row], prepend=np.inf, append=-np.inf)) > 2 * CLOSE
            for place, found in enumerate(best):
                if not (apart[place] and apart[place + 1]):
                    continue
                their = sequences[row * 4 + place]
                their = their[: their.index(EOS)] if EOS in their else their
                assert found == their, (penalty, early, row, place)
                lengths.add(len(found))
                compared += 1
    assert compared > 230 and len(lengths) > 4
