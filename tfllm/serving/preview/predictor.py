"""What both front doors do with a request: find the version, compute, describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllm.serving import rest
from tfllm.serving.errors import SessionError
from tfllm.serving.preview._aside import BYTES_PER_VALUE, aside
from tfllm.serving.preview.batcher import Batcher
from tfllm.serving.preview.catalog import Catalog
from tfllm.serving.preview.model_version import ModelVersion

__all__ = ["Predictor"]


class Predictor:
    """A catalog and the workers that answer for it."""

    def __init__(self, catalog: Catalog, batcher: Batcher, timeout: float) -> None:
        """Join them.

        Args:
            catalog: the models.
            batcher: the workers.
            timeout: seconds that a request may take.
        """
        self.catalog = catalog
        self._batcher = batcher
        self._timeout = timeout

    async def predict(
        self,
        version: ModelVersion,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: tuple[str, ...] = (),
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Answer with arrays; `timeout` is the caller's own, in seconds.

        Raises:
            SessionError: the model refused, or there was no time or room.
        """
        timeout = self._timeout if timeout is None else min(timeout, self._timeout)
        return await self._batcher.run(version, signature_name, inputs, timeout, outputs)

    async def predict_json(
        self, body: bytes, name: str, number: int | None, label: str | None
    ) -> bytes:
        """Answer a REST request's body with a reply's.

        Checks come in the server's order: JSON, `signature_name`, model, signature, inputs.

        Raises:
            SessionError: as `predict`, or the body doesn't fit.
        """
        size = len(body)
        request = await aside(size, rest.read_json, body)
        signature_name = rest.signature_name(request)
        version = self.catalog.find(name, number, label)
        with version.lease():
            signatures = version.signatures
            inputs, in_rows = await aside(size, rest.read_inputs, request, signatures)
            outputs = await self.predict(version, signature_name, inputs)
        size = sum(array.size for array in outputs.values()) * BYTES_PER_VALUE
        return await aside(size, rest.reply_body, outputs, in_rows)

    def status(self, name: str, number: int | None) -> Any:
        """Describe a model's versions in a `GetModelStatusResponse`.

        Raises:
            SessionError: there are none.
        """
        from tfllm.serving._protos import get_model_status_pb2

        reply = get_model_status_pb2.GetModelStatusResponse()
        for version in self.catalog.states(name, number):
            entry = reply.model_version_status.add(version=version.number)
            entry.state = get_model_status_pb2.ModelVersionStatus.State.Value(version.state)
            _set_status(entry.status, version.error)
        return reply

    def metadata(self, name: str, number: int | None, label: str | None) -> tuple[Any, Any]:
        """Describe a version in a `ModelSpec` and a `SignatureDefMap`.

        Raises:
            SessionError: there is no such version.
        """
        from tfllm.serving._protos import get_model_metadata_pb2, model_pb2

        version = self.catalog.find(name, number, label)
        spec = model_pb2.ModelSpec(name=version.name)
        spec.version.value = version.number
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, encoded in version.signature_protos().items():
            signatures.signature_def[key].MergeFromString(encoded)
        return spec, signatures


def _set_status(status: Any, error: SessionError | None) -> None:
    from tfllm.serving._protos import get_model_status_pb2

    status.SetInParent()
    if error is None:
        return
    field = get_model_status_pb2.ModelVersionStatus.DESCRIPTOR.fields_by_name["status"]
    codes = field.message_type.fields_by_name["error_code"].enum_type.values_by_name
    status.error_code = codes[error.code].number if error.code in codes else codes["UNKNOWN"].number
    status.error_message = error.message
