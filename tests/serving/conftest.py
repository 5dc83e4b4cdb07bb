import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf
import tensorflow_text as text


class Counter(tf.Module):
    """Texts → words counted, joined and scored, by way of every kind of thing a bundle holds."""

    def __init__(self):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64))
        self.table = tf.lookup.StaticHashTable(pairs, -1)
        self.scale = tf.Variable([1.5, -2.5])
        self.tokenizer = text.WhitespaceTokenizer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "texts")])
    def count(self, texts):
        words = self.tokenizer.tokenize(texts)
        lengths = tf.cast(words.row_lengths(), tf.float32)
        ids = tf.ragged.map_flat_values(self.table.lookup, words)
        return {
            "joined": tf.strings.reduce_join(words, axis=1, separator="|"),
            "length": words.row_lengths(),
            "id_sum": tf.reduce_sum(ids, axis=1),
            "scores": lengths[:, tf.newaxis] * self.scale,
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "text"),
            tf.TensorSpec([None, None], tf.int32, "ids"),
            tf.TensorSpec([None], tf.float32, "weight"),
            tf.TensorSpec([None], tf.bool, "keep"),
        ]
    )
    def several(self, text, ids, weight, keep):
        total = tf.cast(tf.reduce_sum(ids, axis=1), tf.float32) * weight
        return {"total": tf.where(keep, total, -1.0), "raw_bytes": text}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "wanted")])
    def checked(self, wanted):
        with tf.control_dependencies([tf.debugging.assert_less(wanted, tf.constant(5, tf.int64))]):
            return {"same": tf.identity(wanted)}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A bundle of one version, `…/counter/3`."""
    folder = tmp_path_factory.mktemp("bundles") / "counter"
    model = Counter()
    signatures = {
        "serving_default": model.count,
        "several": model.several,
        "checked": model.checked,
    }
    tf.saved_model.save(model, str(folder / "3"), signatures=signatures)
    return folder
