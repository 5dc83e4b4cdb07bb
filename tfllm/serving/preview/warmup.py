"""The requests that a bundle brings to be run before it serves."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tfllm.serving.errors import SessionError
from tfllm.serving.session import Session

__all__ = ["warm_up"]

_FILE = Path("assets.extra", "tf_serving_warmup_requests")
_HEADER = struct.Struct("<QI")  # a record's length and that length's checksum
_CHECKSUM_BYTES = 4
_MAX_RECORDS = 1000
_DEFAULT_SIGNATURE = "serving_default"


def warm_up(session: Session, folder: Path) -> int:
    """Run every warm-up request of a version, as TF Serving does; say how many there were.

    Raises:
        SessionError: one failed, or isn't one that the preview runs: the version mustn't be served.
    """
    try:
        content = (folder / _FILE).read_bytes()
    except FileNotFoundError:
        return 0
    # Imported here: only a bundle that brings requests needs them.
    from tfllm.serving._protos import prediction_log_pb2
    from tfllm.serving._tensor_protos import array_of

    count = 0
    for count, record in enumerate(_records(content), start=1):
        if count > _MAX_RECORDS:
            message = f"Number of warmup records exceeeds the maximum ({_MAX_RECORDS})"
            raise SessionError("INVALID_ARGUMENT", message)
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        if kind is None:
            continue
        if kind != "predict_log":
            raise SessionError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind}")
        request = log.predict_log.request
        inputs = {name: array_of(proto) for name, proto in request.inputs.items()}
        session.run(request.model_spec.signature_name or _DEFAULT_SIGNATURE, inputs)
    return count


def _records(content: bytes) -> Iterator[bytes]:
    """Cut a TFRecord file, uncompressed, into its records."""
    at = 0
    while at < len(content):
        start = at + _HEADER.size
        if start > len(content):
            raise SessionError("DATA_LOSS", f"{_FILE.name} is cut off at byte {at}")
        length, _ = _HEADER.unpack_from(content, at)
        at = start + length + _CHECKSUM_BYTES
        if at > len(content):
            raise SessionError("DATA_LOSS", f"{_FILE.name} is cut off at byte {start}")
        yield content[start : start + length]
