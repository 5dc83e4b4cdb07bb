import pytest

from tfllm.text import ByteLevelBPE, train_byte_level_bpe


@pytest.fixture(scope="session")
def tokenizer() -> ByteLevelBPE:
    return train_byte_level_bpe(["the cat sat on the mat", "the dog ate the cat"] * 3, 280)
