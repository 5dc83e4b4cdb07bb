import numpy as np
import pytest
import tensorflow as tf
from transformers import BertConfig, DistilBertConfig

from tfllm.errors import InputError
from tfllm.models import attend_nearby
from tfllm.models.backbones import create_backbone

WIDTH, POSITIONS = 128, 24


@pytest.fixture
def bert():
    tf.random.set_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=WIDTH**-0.5,
    )
    return create_backbone(config)


def first_attention(backbone):
    """What each position looks at in the first block where all words are alike, mean of heads."""
    ids = tf.fill([1, POSITIONS], 7)
    return backbone(ids, output_attentions=True).attentions[0][0].numpy().mean(0)


def test_positions_look_at_those_beside_them(bert):
    before = first_attention(bert)
    attend_nearby(bert)
    after = first_attention(bert)
    distance = np.abs(np.arange(POSITIONS)[:, None] - np.arange(POSITIONS))
    near, far = distance <= 2, distance >= 8
    assert after[near].mean() > 1.3 * after[far].mean()
    assert before[near].mean() < 1.1 * before[far].mean()


def test_positions_are_as_large_as_words(bert):
    attend_nearby(bert)
    embeddings = bert.bert.embeddings
    table = embeddings.position_embeddings.numpy()
    np.testing.assert_allclose(np.std(embeddings.weight), np.sqrt(np.mean(table**2)), rtol=1e-5)
    np.testing.assert_allclose(
        table[0], [0] * (WIDTH // 2) + [table[0, -1]] * (WIDTH // 2), atol=1e-6
    )
    assert len(np.unique(table.round(4), axis=0)) == POSITIONS


def test_other_families_are_refused():
    config = DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32)
    with pytest.raises(InputError, match="attend_nearby is for BERT's layers. Received: distil"):
        attend_nearby(create_backbone(config))
