import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfllm.serving import Session, SessionError
from tfllm.serving.rest import answer, read_json

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def session(bundle):
    with Session(bundle / "3") as session:
        yield session


def ask(session, body):
    return json.loads(answer(session, read_json(body.encode())))


def run_cli(folder, body):
    return subprocess.run(
        [sys.executable, "-m", "tfllm.serving.session", str(folder)],
        input=body,
        capture_output=True,
        cwd=ROOT,
        # What this test process sets for itself must not make the command quiet.
        env={key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"},
        check=False,
    )


def test_rows_of_one_input(session):
    reply = ask(session, '{"instances": ["a b", "b"]}')
    assert reply == {
        "predictions": [
            {"joined": "a|b", "length": 2, "id_sum": 3, "scores": [3.0, -5.0]},
            {"joined": "b", "length": 1, "id_sum": 2, "scores": [1.5, -2.5]},
        ]
    }
    named = ask(session, '{"instances": [{"texts": "a b"}, {"texts": "b"}]}')
    assert named == reply


def test_columns_of_one_input(session):
    reply = ask(session, '{"inputs": ["a b", "b"]}')
    assert reply["outputs"]["joined"] == ["a|b", "b"]
    assert reply["outputs"]["scores"] == [[3.0, -5.0], [1.5, -2.5]]
    assert ask(session, '{"inputs": {"texts": ["a b", "b"]}}') == reply


def test_several_inputs(session):
    rows = """{"signature_name": "several", "instances": [
        {"text": "p", "ids": [1, 2], "weight": 0.1, "keep": true},
        {"text": {"b64": "/wA="}, "ids": [3, 4], "weight": 1, "keep": false}]}"""
    assert ask(session, rows) == {
        "predictions": [
            {"raw_bytes": {"b64": "cA=="}, "total": 0.3},
            {"raw_bytes": {"b64": "/wA="}, "total": -1.0},
        ]
    }
    columns = """{"signature_name": "several", "inputs": {"ignored": 1,
        "text": ["p"], "ids": [[1, 2]], "weight": [0.1], "keep": [true]}}"""
    assert ask(session, columns) == {"outputs": {"raw_bytes": [{"b64": "cA=="}], "total": [0.3]}}


def test_a_single_output_is_bare(session):
    body = '{"signature_name": "checked", "instances": [1, 2]}'
    assert ask(session, body) == {"predictions": [1, 2]}
    assert ask(session, body.replace("instances", "inputs")) == {"outputs": [1, 2]}


def test_text_stays_text(session):
    body = '{"instances": ["h\u00e9llo\u4eca\U0001f642 \\u00e9 \\" / \\\\"], "more": 1} rest'
    assert ask(session, body)["predictions"][0]["joined"] == 'héllo今🙂|é|"|/|\\'


def test_bytes_that_are_not_utf8_pass_through(session):
    reply = answer(session, read_json(b'\xef\xbb\xbf{"instances": ["a\xff b"]}'))
    assert b'"joined": "a\xff|b"' in reply


def test_the_first_of_two_equal_keys_counts(session):
    reply = ask(session, '{"instances": ["a"], "instances": ["a b"]}')
    assert reply["predictions"][0]["length"] == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "The document is empty"),
        ("nope", "JSON Parse error"),
        ("[1]", "Is not object"),
        ('"a"', 'JSON Value: "a" Is not object'),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": ["a"], "inputs": ["a"]}', "only one of 'inputs' or 'instances' keys"),
        ('{"instances": "a"}', "Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "No values in 'instances' array"),
        ('{"instances": ["a"], "signature_name": null}', "must be a string value"),
        ('{"instances": ["a"], "signature_name": "x"}', 'name: "x" not found'),
        (
            '{"instances": ["a", 1]}',
            "element: 1 .* JSON Value: 1 Type: Number is not of expected type: string",
        ),
        ('{"instances": ["a", ["a"]]}', r"Expecting shape \[\] but got: \[1\]"),
        ('{"instances": [{"b64": "@@@"}]}', "Unable to base64 decode"),
        ('{"instances": [{"b64": 1}]}', "does not have named input: b64"),
        ('{"instances": ["\\ud800"]}', "surrogate"),
        ('{"instances": [{"zz": "a"}]}', "does not have named input: zz"),
        (
            '{"signature_name": "checked", "instances": [1.0]}',
            "1.0 Type: Number is not of expected type: int64",
        ),
        (
            '{"signature_name": "checked", "instances": [true]}',
            "true Type: True is not of expected",
        ),
        (
            '{"signature_name": "checked", "instances": [null]}',
            "null Type: Null is not of expected",
        ),
        (
            '{"signature_name": "checked", "instances": [9223372036854775808]}',
            "expected type: int64",
        ),
        ('{"signature_name": "several", "instances": [1]}', "list of objects"),
        ('{"signature_name": "several", "instances": [{"text": "a"}]}', "ids,keep,text,weight"),
        ('{"signature_name": "several", "inputs": {"text": ["a"]}}', "Missing named input: ids"),
        ('{"signature_name": "several", "inputs": [1]}', "expecting an object"),
    ],
)
def test_what_the_server_refuses_is_refused(session, body, words):
    with pytest.raises(SessionError, match=words) as caught:
        ask(session, body)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_the_command_answers_from_stdin_without_a_word_more(bundle):
    done = run_cli(bundle, '{"instances": ["a 今"]}'.encode())
    assert done.returncode == 0
    assert done.stderr == b""
    assert json.loads(done.stdout)["predictions"][0]["joined"] == "a|今"
    assert "今".encode() in done.stdout


@pytest.mark.parametrize(
    ("folder", "body", "words"),
    [
        ("counter/3", b"{", b"JSON Parse error"),
        ("counter", b'{"signature_name": "x", "instances": ["a"]}', b'"x" not found'),
        ("missing", b"{}", b"No such file or directory"),
        (".", b"{}", b"is no bundle"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(bundle, folder, body, words):
    done = run_cli(bundle.parent / folder, body)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_plain_dictionary_is_a_request_too(session):
    for text in ("a b", "今天 \udcff", 'q"\\'):
        reply = answer(session, {"instances": [text]})
        wanted = "|".join(text.split()).encode(errors="surrogateescape")
        assert wanted in reply.replace(b'\\"', b'"').replace(b"\\\\", b"\\")
    with pytest.raises(SessionError, match="surrogate"):
        answer(session, {"instances": ["\ud800"]})
