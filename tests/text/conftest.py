import pytest

SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it's what they've said we'll see.",
    "the thing there then these those  other    mother   father\n\nanother brother\tbrothers",
    "Übergrößenträger fährt über die Straße. Ça va, garçon? Los niños están aquí.",
    "東京都は日本の首都です。東京タワー。 Москва, столица России. 🤗🤗 👩‍👩‍👧 café naïve",
    "1234 12 1999 2024 3.14 x = y + z -- def f(x): return x != None # !!! ???",
] * 3


@pytest.fixture(scope="session")
def sentences():
    return list(SENTENCES)


@pytest.fixture(scope="session")
def tiny(sentences):
    """A tokenizer of 400 ids."""
    from tfllm.text import train_byte_level_bpe

    return train_byte_level_bpe(sentences, 400)


@pytest.fixture(scope="session")
def tiny_roberta(tiny):
    """The same merges with prefix spaces, trimmed offsets and RoBERTa's special tokens."""
    from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors

    from tfllm.text import ByteLevelBPE

    fast = Tokenizer.from_str(tiny.fast.to_str())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    fast.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    fast.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    fast.add_tokens([AddedToken("<tail>", rstrip=True), "<tail>s", "é"])
    fast.post_processor = processors.RobertaProcessing(
        ("</s>", fast.token_to_id("</s>")), ("<s>", fast.token_to_id("<s>"))
    )
    roles = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "mask_token": "<mask>",
    }
    return ByteLevelBPE(fast, special_roles=roles)


@pytest.fixture(scope="session")
def plain_roberta(tiny_roberta):
    """`tiny_roberta`, for which special tokens in a text are plain text."""
    from tfllm.text import ByteLevelBPE

    return ByteLevelBPE(tiny_roberta.fast, special_tokens_in_text=False)
