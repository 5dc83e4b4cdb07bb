import tf_keras as keras
from transformers import BertConfig

from tfllm.models import TextEmbedder, digest_of_model

SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}


def digest(pooling="mean", normalise=True, seed=0, **changed) -> str:
    keras.utils.set_random_seed(seed)
    config = BertConfig(**(SIZES | changed))
    return digest_of_model(TextEmbedder.from_config(config, pooling=pooling, normalise=normalise))


def test_models_that_give_other_vectors_have_other_digests():
    others = [
        digest(seed=1),
        digest(pooling="first"),
        digest(normalise=False),
        digest(num_attention_heads=4),
        digest(hidden_act="relu"),
    ]
    assert digest() == digest() and len({digest(), *others}) == 6


def test_where_a_model_lies_does_not_count(tmp_path):
    model = TextEmbedder.from_config(BertConfig(**SIZES))
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        assert digest_of_model(TextEmbedder.from_pretrained(tmp_path / name)) == (
            digest_of_model(model)
        )
