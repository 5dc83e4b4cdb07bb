"""The head of PyTorch's classes; parity by value is in `test_loading.py`."""

import numpy as np
import pytest
import tensorflow as tf

from tfllm.errors import InputError
from tfllm.models.backbones import classification_head, drop_pooler, head_dropout, hidden_states


def test_the_head_has_the_rate_of_the_configuration(backbone, batch):
    """The share of units that no gradient reaches in training."""
    features = batch(backbone, 7, rows=1)
    head = classification_head(backbone, 3, dropout=0.5)
    hidden = hidden_states(backbone, features)

    def logits(seed: int, **call) -> np.ndarray:
        return head(hidden, dropout_seed=tf.constant([seed, 1], tf.int64), **call).numpy()

    np.testing.assert_array_equal(logits(1, training=True), logits(1, training=True))
    # Few units are not 0 before it, so two seeds alone may drop the same ones.
    others = [logits(seed, training=True) for seed in range(2, 12)]
    assert any(np.any(logits(1, training=True) != other) for other in others)
    np.testing.assert_array_equal(logits(1), logits(2))
    assert logits(1).dtype == np.float32 and logits(1).shape == (1, 3)


def test_rates_of_the_configuration(fresh):
    backbone, config = fresh, fresh.config
    expected = {"distilbert": 0.2, "gpt2": 0.0}.get(config.model_type, 0.1)
    assert head_dropout(backbone) == pytest.approx(expected)
    if hasattr(config, "classifier_dropout") and config.model_type != "gpt2":
        config.classifier_dropout = 0.3
        assert classification_head(backbone, 2).rate == pytest.approx(0.3)


def test_rows_are_summed_up_by_the_first_or_the_last_real_token(backbone):
    head = classification_head(backbone, 2)
    hidden = tf.random.stateless_normal([2, 4, 8], [1, 2])
    mask = tf.constant([[1, 1, 1, 1], [1, 1, 0, 0]])
    place = [0, 0] if backbone.config.model_type not in ("gpt2", "xlnet") else [3, 1]
    alone = tf.gather(hidden, place, batch_dims=1)[:, None]
    np.testing.assert_allclose(head(hidden, mask), head(alone), rtol=1e-6)


def test_the_pooler_stays_the_backbones(fresh):
    backbone = fresh
    head = classification_head(backbone, 2)
    own = {id(w) for w in head.weights}
    assert not own & {id(w) for w in backbone.weights}
    assert len(own) == 2 * len(head.heads) - (backbone.config.model_type == "gpt2")
    before = len(backbone.trainable_variables)
    drop_pooler(backbone)  # a classifier uses it, so it stays
    assert len(backbone.trainable_variables) == before


def test_a_pooler_that_no_head_uses_goes(fresh):
    before = len(fresh.trainable_variables)
    has_pooler = fresh.config.model_type in ("bert", "albert")
    drop_pooler(fresh)
    assert before - len(fresh.trainable_variables) == 2 * has_pooler
    if has_pooler:
        with pytest.raises(InputError, match="Make classifiers first"):
            classification_head(fresh, 2)
