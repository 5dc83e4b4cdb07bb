"""The requests that TensorFlow Serving sends a bundle before it calls it available."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfllm.export.probes import Case

__all__ = ["write_warmup"]


def write_warmup(folder: Path, name: str, requests: Sequence[Case]) -> None:
    """Write them as a TFRecord, uncompressed, of PredictionLogs.

    A record that fails makes the server refuse the version and keep the one before: so each proves
    at loading that its signature runs there.

    Args:
        folder: the version's.
        name: of the model; the server takes no notice.
        requests: one record each.
    """
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as file:
        for request in requests:
            file.write(_log(name, request).SerializeToString(deterministic=True))


def _log(name: str, request: Case) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    predict = log.predict_log.request
    predict.model_spec.name = name
    predict.model_spec.signature_name = request.signature
    for key, column in request.inputs.items():
        dtype = tf.string if column.dtype == object else tf.as_dtype(column.dtype)
        predict.inputs[key].CopyFrom(tf.make_tensor_proto(column, dtype, column.shape))
    return log
