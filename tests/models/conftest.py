import numpy as np
import pytest
import tf_keras as keras
from transformers import GPT2Config

from tfllm.models import CausalLM


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same weights in every run and in every order of tests."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def tiny_config() -> GPT2Config:
    return GPT2Config(
        vocab_size=23,
        n_positions=24,
        n_embd=8,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.1,
        embd_pdrop=0.1,
        attn_pdrop=0.1,
        bos_token_id=0,
        eos_token_id=0,
    )


@pytest.fixture
def tiny_model(tiny_config: GPT2Config) -> CausalLM:
    keras.utils.set_random_seed(3)  # also of what a test adds, adapters say
    model = CausalLM.from_config(tiny_config)
    rng = np.random.default_rng(5)
    for variable in model.weights:
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model
