"""TensorFlow Serving's REST interface over HTTP."""

from __future__ import annotations

import asyncio
import logging
import re
import zlib

from aiohttp import http_exceptions, web

from tfllm.serving import rest
from tfllm.serving.errors import SessionError
from tfllm.serving.preview.predictor import Predictor
from tfllm.serving.preview.request_counts import RequestCounts
from tfllm.serving.preview.rest_paths import RestPath
from tfllm.serving.preview.settings import PreviewSettings

__all__ = ["RestFront"]

_METHODS = frozenset(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
_LINGERING_SECONDS = 1.0  # that the rest of a body is read when it has been answered already
_METRICS_PATH = "/monitoring/prometheus/metrics"
_REST = re.compile("/v1/.*", re.IGNORECASE | re.DOTALL)
_JSON = {"Content-Type": "application/json"}
_HTML = {"Content-Type": "text/html"}
_PREFLIGHT = {"Content-Type": "text/html; charset=ISO-8859-1"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_PAGE = "<HTML><HEAD>\n<TITLE>{0} {1}</TITLE>\n</HEAD><BODY>\n<H1>{1}</H1>\n</BODY></HTML>\n"

_STATUSES = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class RestFront:
    """An HTTP application in front of a predictor."""

    def __init__(self, predictor: Predictor, settings: PreviewSettings) -> None:
        """Make the application; `runner` serves it."""
        self._predictor = predictor
        self._settings = settings
        self._counts = RequestCounts()

    def runner(self) -> web.AppRunner:
        """Give what listens: bodies come as they were sent, and stopping waits for replies."""
        application = web.Application(client_max_size=self._settings.max_request_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # Not aiohttp's own logger, which other parts of a program may listen to.
        log = logging.getLogger("tfllm.serving.http")
        log.addFilter(_is_ours)
        return web.AppRunner(
            application,
            logger=log,
            auto_decompress=False,
            access_log=None,
            shutdown_timeout=self._settings.shutdown_seconds,
            lingering_time=_LINGERING_SECONDS,
        )

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.raw_path
        if request.method not in _METHODS:
            return _page(501, "Not Implemented")
        if self._settings.enable_metrics and path.partition("?")[0] == _METRICS_PATH:
            return self._metrics(path)
        if not _REST.fullmatch(path):
            return _page(404, "Not Found")
        if request.method == "OPTIONS":
            return self._preflight(request.headers.get("Origin", ""))
        try:
            reply = await self._answer(request.method, path, await self._body(request))
        except SessionError as error:
            status = 413 if error.code == "TOO_LARGE" else _STATUSES.get(error.code, 500)
            return self._reply(status, rest.error_body(error) if error.message else b"")
        return self._reply(200, reply)

    async def _body(self, request: web.Request) -> bytes:
        """Read a body, unpacked.

        Raises:
            SessionError: it is too large, or too slow in coming.
        """
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise self._too_large() from error
        except TimeoutError as error:
            message = f"the request's body did not come within {self._settings.timeout_seconds:g} s"
            raise SessionError("DEADLINE_EXCEEDED", message) from error
        if "gzip" in request.headers.get("Content-Encoding", ""):
            return self._unpacked(body)
        return body

    def _reply(self, status: int, body: bytes) -> web.Response:
        headers = _JSON | _CORS if self._settings.enable_cors else _JSON
        return web.Response(status=status, body=body, headers=headers)

    async def _answer(self, method: str, path: str, body: bytes) -> bytes:
        parts = RestPath.parse(method, path)
        if not parts.model:
            raise SessionError("INVALID_ARGUMENT", "Missing model name in request.")
        if not parts.verb:
            return _status_json(self._predictor, parts)
        if parts.verb == "metadata":
            return _metadata_json(self._predictor, parts)
        if parts.verb != "predict":
            message = f"the preview server answers :predict only, not :{parts.verb}"
            raise SessionError("UNIMPLEMENTED", f"{message}: TensorFlow Serving has both")
        return await self._predict(parts, body)

    async def _predict(self, parts: RestPath, body: bytes) -> bytes:
        code = "OK"
        try:
            return await self._predictor.predict_json(body, parts.model, parts.number, parts.label)
        except SessionError as error:
            code = error.code
            raise
        finally:
            if self._predictor.catalog.serves(parts.model):
                self._counts.add(parts.model, code)

    def _unpacked(self, body: bytes) -> bytes:
        """Inflate a gzip body; what is no gzip is empty, as in the server.

        Raises:
            SessionError: it is larger than a request may be.
        """
        limit = self._settings.max_request_bytes
        inflater = zlib.decompressobj(wbits=31)
        try:
            unpacked = inflater.decompress(body, limit + 1)
        except zlib.error:
            return b""
        if len(unpacked) > limit:
            raise self._too_large()
        return unpacked if inflater.eof else b""

    def _too_large(self) -> SessionError:
        limit = self._settings.max_request_bytes
        return SessionError(
            "TOO_LARGE", f"the request is larger than --max_request_bytes, which is {limit}"
        )

    def _preflight(self, origin: str) -> web.Response:
        headers = _PREFLIGHT | _CORS if self._settings.enable_cors else _PREFLIGHT
        status = 200 if re.search("https?://", origin) else 400
        return web.Response(status=status, headers=headers)

    def _metrics(self, path: str) -> web.Response:
        headers = {"Content-Type": "text/plain"}
        if path != _METRICS_PATH:
            text = f"Unexpected path: {path}. Should be {_METRICS_PATH}"
            return web.Response(status=400, body=text.encode(), headers=headers)
        return web.Response(body=self._counts.text().encode(), headers=headers)


def _is_ours(record: logging.LogRecord) -> bool:
    """Say whether a record is of a defect, and not of a sender who hangs up or speaks no HTTP."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, http_exceptions.HttpProcessingError | ConnectionError)


def _page(status: int, title: str) -> web.Response:
    return web.Response(status=status, body=_PAGE.format(status, title).encode(), headers=_HTML)


def _status_json(predictor: Predictor, parts: RestPath) -> bytes:
    reply = predictor.status(parts.model, parts.number)
    return f"{_proto_json(reply)}\n".encode()


def _metadata_json(predictor: Predictor, parts: RestPath) -> bytes:
    spec, signatures = predictor.metadata(parts.model, parts.number, parts.label)
    text = (
        f'{{\n"model_spec":{_proto_json(spec)}\n,\n'
        f'"metadata": {{"signature_def": {_proto_json(signatures)}\n}}\n}}\n'
    )
    return text.encode()


def _proto_json(message: object) -> str:
    from google.protobuf import json_format  # type: ignore[import-untyped]

    return json_format.MessageToJson(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
        ensure_ascii=False,
        indent=1,
    )
