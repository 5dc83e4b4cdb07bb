"""A person at the command line, with a model of seconds: a prompt, a file, a chat."""

import functools
import importlib.util
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from transformers import GPT2Config

from tfllm import text
from tfllm.data.templates import DialogueTemplate, PairTemplate, Template, save_template
from tfllm.errors import InputError
from tfllm.export import _saving
from tfllm.models import CausalLM

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "generate.py"
PROMPTS = ["the cat", "a good film and a bad one", "on", "sat on the mat"]
NEW = 6


def load_recipe():
    spec = importlib.util.spec_from_file_location("generate_recipe", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


def new_model(tokenizer, *, positions: int) -> CausalLM:
    keras.utils.set_random_seed(3)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=positions, n_embd=16, n_layer=1, n_head=2
    )
    model = CausalLM.from_config(config)
    rng = np.random.default_rng(5)
    for variable in model.weights:  # so that different prompts go on differently
        variable.assign(variable + 0.3 * rng.standard_normal(variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """`nano`, `pair` and `talk`: one model, without and with templates; `saved`, its bundle."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = text.train_byte_level_bpe(PROMPTS * 3, 280)
    model = new_model(tokenizer, positions=48)
    templates = {
        "nano": None,
        "pair": PairTemplate(Template("{article} on"), Template(" {summary}")),
        "pairs": PairTemplate(Template("{a} and {b}"), Template(" {c}")),
        "talk": DialogueTemplate(Template("{speaker}: {text}\n")),
    }
    for name, template in templates.items():
        model.save_pretrained(folder / name, tokenizer)
        if template is not None:
            save_template(folder / name, template)
    _saving.save(
        model.signatures(tokenizer, max_new_tokens=NEW), [model, tokenizer], folder / "saved" / "1"
    )
    return folder


@pytest.fixture(scope="module", autouse=True)
def models_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((CausalLM, "from_pretrained"), (text, "load")):
            patch.setattr(owner, name, functools.cache(getattr(owner, name)))
        yield


@pytest.fixture
def run(folders, tmp_path, monkeypatch, capsys):
    """Run the recipe in this process; give what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *words: object) -> str:
        command = [str(folders / name), "--max_new_tokens", NEW, *words]
        return ask(*command)

    def ask(*words: object) -> str:
        recipe.main(cli_config(*words))
        return capsys.readouterr().out

    run.plain_of = ask
    run.plain = lambda name, *words: ask(folders / name, *words)
    return run


def cli_config(*words: object):
    from tfllm.cli.command_line import parse

    return parse(recipe.Config, None, "generate.py", [str(word) for word in words])


def answers(out: str) -> list:
    return [json.loads(line) for line in out.splitlines()]


def write_lines(path: Path, lines) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


class TestFolder:
    def test_a_file_of_prompts_answers_as_each_alone(self, run, tmp_path):
        prompts = PROMPTS * 3
        path = write_lines(tmp_path / "p.txt", prompts)
        found = answers(run("nano", "--file", path, "--batch_size", 3))
        assert [line["prompt"] for line in found] == prompts
        alone = {prompt: run("nano", "--prompt", prompt) for prompt in PROMPTS}
        assert [f"{line['completion']}\n" for line in found] == [alone[p] for p in prompts]
        assert len(set(alone.values())) > 1

    def test_objects_and_output(self, run, tmp_path):
        lines = ["{no object", json.dumps({"text": "the\ncat", "id": 7}), "the cat"]
        path = write_lines(tmp_path / "p.jsonl", lines)
        assert run("nano", "--file", path, "--output", "new.jsonl") == ""
        found = answers((tmp_path / "new.jsonl").read_text(encoding="utf-8"))
        assert [line["prompt"] for line in found] == [lines[0], json.loads(lines[1]), lines[2]]
        with pytest.raises(InputError, match="--output new.jsonl exists already"):
            run("nano", "--file", path, "--output", "new.jsonl")
        assert run("nano", "--prompt", "the cat", "--output", "one.jsonl") == ""
        assert answers((tmp_path / "one.jsonl").read_text()) == found[2:]

    def test_files_that_hold_no_prompts(self, run, tmp_path):
        with pytest.raises(InputError, match="p.txt holds no prompt. Give one a line"):
            run("nano", "--file", write_lines(tmp_path / "p.txt", []), "--output", "new")
        path = write_lines(tmp_path / "p.jsonl", ['{"text": "a"}', "{bad"])
        with pytest.raises(InputError, match=r"p.jsonl:2 begins like the objects above it, and is"):
            run("nano", "--file", path, "--output", "new")
        assert not (tmp_path / "new").exists()
        with pytest.raises(InputError, match=r"--prompt: 'text' must be Unicode text, in UTF-8"):
            run("nano", "--prompt", "\udcff\udcfe")

    def test_chance(self, run):
        words = ("--prompt", "the cat", "--temperature", 2)
        two = run("nano", *words, "--num_returned", 2, "--seed", 5)
        alone = [run("nano", *words, "--seed", seed) for seed in (5, 6)]
        assert two == "\n".join(alone) and alone[0] != alone[1]
        assert run("nano", *words[:2], "--top_k", 1) == run("nano", *words[:2])

    def test_stops(self, run, tmp_path):
        drawn = ("--temperature", 2, "--seed", 5)
        whole = run("nano", "--prompt", "the cat", *drawn)[:-1]
        # Half characters are shown as U+FFFD, which is not what was written.
        stop = re.search(r"(?<=.)[ -~]+", whole)
        wanted = whole[: whole.index(stop[0])] + "\n"
        stops = (*drawn, "--stop", stop[0], "never to be found")
        assert run("nano", "--prompt", "the cat", *stops) == wanted
        path = write_lines(tmp_path / "p.txt", ["the cat"])
        assert answers(run("nano", "--file", path, *stops))[0]["completion"] + "\n" == wanted

    @pytest.mark.slow
    def test_beams_and_rules(self, run):
        words = ("--prompt", "the cat")
        greedy = run("nano", *words)
        assert run("nano", *words, "--num_beams", 1) == greedy
        best = run("nano", *words, "--num_beams", 4)
        two = run("nano", *words, "--num_beams", 4, "--num_returned", 2)
        assert two.startswith(best + "\n") and len(two) > len(best) + 1
        assert run("nano", *words, "--repetition_penalty", 5) != greedy

    def test_an_empty_prompt_is_the_start_token(self, run):
        assert run("nano", "--prompt", "") == run("nano", "--prompt", "<|endoftext|>")

    def test_a_template_is_applied(self, run, tmp_path):
        wanted = run("nano", "--prompt", "the cat on").strip()
        assert run("pair", "--prompt", "the cat") == f"{wanted}\n"
        assert run("pair", "--raw", "--prompt", "the cat on").strip() == wanted
        path = write_lines(tmp_path / "p.jsonl", [json.dumps({"article": "the cat"})])
        assert answers(run("pair", "--file", path))[0]["completion"] == wanted
        path = write_lines(path, [json.dumps({"a": "a good film", "b": "a bad one"})])
        wanted = run("nano", "--prompt", PROMPTS[1]).strip()
        assert answers(run("pairs", "--file", path))[0]["completion"] == wanted
        write_lines(path, ['{"a": "a", "b": "b"}', "a good film"])
        with pytest.raises(InputError, match=r"p.jsonl:2: a prompt has a, b here, .* no 'a'"):
            run("pairs", "--file", path)

    def test_a_run_is_its_model(self, run, folders, tmp_path):
        (tmp_path / "r" / "checkpoints").mkdir(parents=True)
        with pytest.raises(InputError, match=r"run in .*r has no model yet"):
            run(tmp_path / "r", "--prompt", "the cat")
        (tmp_path / "r" / "model").symlink_to(folders / "nano")
        assert run(tmp_path / "r", "--prompt", "on") == run("nano", "--prompt", "on")

    def test_long_prompts(self, run, tmp_path):
        long = " ".join(["the cat sat"] * 40)
        path = write_lines(tmp_path / "p.txt", ["the cat", long])
        with pytest.raises(InputError, match=r"p.txt:2: the prompt has \d+ tokens, and .* for 43"):
            run("nano", "--file", path)
        found = answers(run("nano", "--file", path, "--slide"))
        assert found[0]["completion"] + "\n" == run("nano", "--prompt", "the cat")
        with pytest.raises(InputError, match="--max_new_tokens must be at most the model's 48"):
            run.plain("nano", "--prompt", "a", "--max_new_tokens", 49)


class TestBundle:
    def test_its_default(self, run, tmp_path):
        path = write_lines(tmp_path / "p.txt", PROMPTS)
        wanted = answers(run("nano", "--file", path))
        assert answers(run.plain("saved", "--file", path, "--batch_size", 3)) == wanted
        out = run.plain("saved/1", "--prompt", PROMPTS[0])
        assert out == wanted[0]["completion"] + "\n"

    @pytest.mark.slow
    def test_its_settings(self, run):
        words = ("--prompt", "the cat", "--temperature", 2, "--num_returned", 2)
        assert run("saved", *words) == run("nano", *words)
        short = run.plain("saved", "--prompt", "the cat", "--max_new_tokens", 2)
        assert short == run.plain("nano", "--prompt", "the cat", "--max_new_tokens", 2)

    def test_the_largest_seeds(self, run):
        words = ("--prompt", "the cat", "--temperature", 2, "--seed", 2**31 - 2)
        two = run("saved", *words, "--num_returned", 2).split("\n\n")
        assert two[1] == run("saved", *words[:-1], 2**31 - 1)

    def test_one_that_writes_no_text(self, run, tmp_path):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
        def classify(text):
            return {"label": text, "score": tf.strings.length(text)}

        module = tf.Module()
        _saving.save({"serving_default": classify}, [module], tmp_path / "labels" / "1")
        with pytest.raises(InputError, match=r"labels writes no text: .* gives label, score\. Ask"):
            run.plain(tmp_path / "labels", "--prompt", "a")

    def test_what_it_does_not_know(self, run):
        with pytest.raises(InputError, match=r"--num_beams is nothing that .* takes max_new_to"):
            run("saved", "--prompt", "a", "--num_beams", 2)
        with pytest.raises(InputError, match="--raw is for a model's folder"):
            run("saved", "--prompt", "a", "--raw")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--num_beams 4 --top_p 0.9", "--num_beams 4 and --top_p 0.9 exclude each other. Give"),
        ("--num_beams 4 --temperature 1", "--num_beams 4 and --temperature 1.0 exclude"),
        ("--temperature 0 --top_k 5", "--temperature 0.0 and --top_k 5 exclude"),
        ("--prompt a --file b", "--prompt a and --file b exclude"),
        ("--num_beams 1000000", "--num_beams must be at most 256. Received: 1000000"),
        ("--temperature 1e300", "--temperature must be at most 3.4e38. Received: 1e.300"),
        ("--top_k 3000000000", "--top_k must be below 2³¹. Received: 3000000000"),
        (f"--stop {'é' * 150}", "--stop must have at most 256 bytes. Received: éé"),
        ("--stop \udcff", r"--stop must be UTF-8. Received: '\\udcff'"),
        ("--top_p 1.5", "--top_p must be above 0 and at most 1. Received: 1.5"),
        ("--min_p -0.1", "--min_p must be between 0 and 1"),
        ("--temperature nan", "--temperature must be a finite number"),
        ("--temperature -1", "--temperature must not be negative"),
        ("--repetition_penalty 0", "--repetition_penalty must be above 0"),
        ("--num_returned 2", "--num_returned needs --num_beams or --temperature"),
        ("--num_beams 2 --num_returned 3", "--num_returned must be at most --num_beams 2"),
        ("--max_new_tokens 0", "--max_new_tokens must be at least 1"),
        ("--seed 2147483648", "--seed must be between 0"),
        (
            "--seed 2147483647 --num_returned 2 --temperature 1",
            "--seed must be between 0 and 2³¹ − 2, one for each text",
        ),
        ("--top_k 1 --stop", None),
    ],
)
def test_what_contradicts_itself_is_refused(words, message):
    config = cli_config("m", *words.split())
    if message is None:
        config.check()
        return
    with pytest.raises(InputError, match=message):
        config.check()


def test_models_that_are_none(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty is no bundle"):
        run(tmp_path / "empty", "--prompt", "a")
    with pytest.raises(
        InputError, match=r"is a folder of bundles: saved. Give one, as in .*/saved"
    ):
        run("", "--prompt", "a")
    with pytest.raises(InputError, match="--model must not be empty"):
        run.plain_of("", "--prompt", "a")
    with pytest.raises(InputError, match="--file nowhere can't be read: No such file"):
        run("nano", "--file", "nowhere")


def test_help_and_mistakes_import_no_tensorflow():
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'tensorflow' in sys.modules)\n"
    )

    def end_of(*words: str) -> subprocess.CompletedProcess[str]:
        program = f"import sys; sys.argv = {[str(RECIPE), *words]}\n{code}"
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert end_of("--help").stdout.endswith("0 False\n")
    wrong = end_of("m", "--num_beams", "2", "--top_k", "3")
    assert wrong.stdout == "2 False\n"
    assert wrong.stderr == (
        "error: --num_beams 2 and --top_k 3 exclude each other. Give one of them\n"
    )
    missing = end_of()
    assert missing.stdout == "2 False\n" and len(missing.stderr.splitlines()) == 1


def shown(seen: bytes) -> str:
    return seen.decode(errors="replace").replace("\r\n", "\n")


class Terminal:
    """The recipe in a terminal of its own."""

    def __init__(self, *words: object) -> None:
        self.process, self._end = pty.fork()
        if not self.process:
            os.execv(sys.executable, [sys.executable, str(RECIPE), *map(str, words)])

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def until(self, mark: str) -> str:
        """Read up to a mark; without one, whatever comes first."""
        seen = b""
        deadline = time.monotonic() + 120
        while not (seen and mark in shown(seen)) and time.monotonic() < deadline:
            if select.select([self._end], [], [], 1)[0]:
                try:
                    seen += os.read(self._end, 4096)
                except OSError:  # it has ended
                    break
        return shown(seen)

    def code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.mark.slow
def test_a_chat(tmp_path):
    """An answer that would take long is ended by Ctrl-C, and the chat goes on."""
    tokenizer = text.train_byte_level_bpe(PROMPTS * 3, 280)
    new_model(tokenizer, positions=8_000).save_pretrained(tmp_path / "m", tokenizer)
    save_template(tmp_path / "m", DialogueTemplate(Template("{speaker}: {text}\n")))
    terminal = Terminal(tmp_path / "m", "--max_new_tokens", 7_900)
    assert "An empty line begins anew." in terminal.until("> ")
    terminal.type("the film " * 40 + "\n")
    assert "error: the prompt has" in terminal.until("\n> ")
    terminal.type("the cat\n")
    terminal.until("the cat\n")
    first = terminal.until("")
    terminal.type("\x03")
    first += terminal.until("\n> ")
    assert 2 < len(first) < 7_900
    terminal.type("\x04")
    terminal.until("never")
    assert terminal.code() == 0
