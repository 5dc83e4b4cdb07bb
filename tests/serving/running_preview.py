"""A preview server in a thread of the test's process."""

import asyncio
import contextlib
import http.client
import threading

from tfllm.serving.preview.server import PreviewServer
from tfllm.serving.preview.settings import PreviewSettings


@contextlib.contextmanager
def running_preview(**settings):
    """Serve, on free ports unless told otherwise; give the server, which knows them."""
    settings = PreviewSettings(**({"rest_port": 0, "grpc_port": 0} | settings))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        server = PreviewServer(settings)
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(60)
        try:
            yield server
        finally:
            stopped = server.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(stopped, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):  # as asyncio.run does
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def ask(port, method, path, body=None, headers=None):
    """Send one request as it is; give the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()
