"""Files of the hub, asked of a server on this machine that speaks as the hub does, or cached."""

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from tfllm.errors import InputError
from tfllm.hub import hub_file

COMMIT = "0" * 40
FILES = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"[PAD]\n"}


class Hub(http.server.BaseHTTPRequestHandler):
    """One model, `somebody/small`; every request is noted."""

    asked: list[str] = []

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        self.asked.append(self.path)
        if self.path == "/api/models/somebody/small":
            siblings = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "somebody/small", "siblings": siblings}).encode()
            self.reply(200, content, {}, body)
        elif self.path.startswith("/somebody/small/resolve/"):
            name = self.path.rsplit("/", 1)[1]
            self.reply(200, FILES[name], {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body)

    def reply(self, status, content, headers, body):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def found(cache, endpoint, name, *file_names):
    """What a fresh process with its own cache finds: a path's text, None, or the error's."""
    code = (
        "import sys; from tfllm.hub import hub_file; from tfllm.errors import InputError\n"
        "for name in sys.argv[2:]:\n"
        "    try: print((path := hub_file(sys.argv[1], name)) and path.read_text().strip())\n"
        "    except InputError as error: print(error)\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, name, *file_names],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_files_come_from_the_hub_and_then_from_the_cache(hub, tmp_path):
    names = ["config.json", "vocab.txt", "tokenizer.json", "merges.txt"]
    answers = ['{"model_type": "bert"}', "[PAD]", "None", "None"]
    assert found(tmp_path, hub, "somebody/small", *names) == answers
    listings = [path for path in Hub.asked if path.startswith("/api/")]
    assert listings == ["/api/models/somebody/small"]
    assert not [path for path in Hub.asked if path.endswith(("tokenizer.json", "merges.txt"))]
    nobody_listens = "http://127.0.0.1:9"
    assert found(tmp_path, nobody_listens, "somebody/small", *names) == answers


def test_a_name_that_the_hub_does_not_know(hub, tmp_path):
    (error,) = found(tmp_path, hub, "somebody/else", "config.json")
    assert "'somebody/else' is neither a local folder nor a model on" in error


def test_a_hub_that_nobody_reaches_is_asked_once(tmp_path):
    (error,) = found(tmp_path, "http://127.0.0.1:9", "somebody/small", "config.json")
    assert "'somebody/small' is no local folder" in error and "can't be reached" in error


def test_a_name_that_is_none():
    with pytest.raises(InputError, match="'two words' is neither"):
        hub_file("two words", "config.json")
