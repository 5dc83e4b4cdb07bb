r"""Let a model write: go on from a prompt, from a file of prompts, or chat in the terminal.

    python recipes/generate.py runs/finetune_generator
    python recipes/generate.py gpt2 --prompt "Once upon a time" --temperature 0.8 --top_p 0.95
    python recipes/generate.py runs/finetune_generator --file prompts.txt --output answers.jsonl
    python recipes/generate.py savedmodels/gpt2-books --prompt "Once upon a time"

A file holds a prompt a line, or a JSON object with a prompt's fields; out come JSON lines. The
template that the model was trained with is applied. Without a flag that asks for chance the
likeliest token is taken, and a bundle answers as it does by default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import re
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tyro

from tfllm import cli, serving, training
from tfllm.errors import InputError

Given = str | dict[str, Any]

# Flags that ask for chance.
CHANCE = ("temperature", "top_k", "top_p", "min_p")
# What a bundle's signature takes for a flag that is not given.
NEUTRAL: dict[str, Any] = {
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "seed": 0,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    model: tyro.conf.Positional[str]
    """A run's folder, a transformers folder, a name on the hub, or a bundle."""
    prompt: str | None = None
    """Go on from this text, and print what comes as it comes."""
    file: str | None = None
    """Go on from each line of a file; - reads what is piped in."""
    output: str = "-"
    """File of answers, which must not exist yet; - prints them."""
    max_new_tokens: int | None = None
    """Tokens after which a text ends. Default: 64, or half the positions; of a bundle, its own."""
    temperature: float | None = None
    """Draw tokens by chance; above 1 more freely, below 1 less, and 0 takes the likeliest."""
    top_k: int | None = None
    """Draw among so many of the likeliest tokens; 0 for all."""
    top_p: float | None = None
    """Draw among the likeliest tokens whose shares add up to this; 1 for all."""
    min_p: float | None = None
    """Draw among tokens at least so many times as likely as the likeliest; 0 for all."""
    seed: int = 0
    """Decides chance: the same seed writes the same, whatever prompts are beside it."""
    repetition_penalty: float | None = None
    """Above 1, tokens of prompt and text so far become less likely."""
    no_repeat_ngram_size: int | None = None
    """No so many tokens in a row come twice; 0 for no such rule."""
    num_beams: int | None = None
    """Search for the likeliest text among so many at a time, in place of token by token."""
    num_returned: int = 1
    """Texts for each prompt, with --num_beams or chance."""
    stop: tuple[str, ...] = ()
    r"""End before any of these texts; \n and \t are a new line and a tab."""
    slide: bool = False
    """A prompt that is too long loses its beginning, in place of being refused."""
    raw: bool = False
    """Leave the template out that the model was trained with."""
    batch_size: int = 16
    """Prompts of a file that are answered together; those of like length are."""

    def check(self) -> None:
        """Refuse what contradicts itself, before TensorFlow is imported."""
        for name, value in vars(self).items():
            finite = not isinstance(value, float) or math.isfinite(value)
            cli.require(finite, name, value, "must be a finite number")
        for name in ("max_new_tokens", "num_beams", "num_returned", "batch_size"):
            value = getattr(self, name)
            cli.require(value is None or value >= 1, name, value, "must be at least 1")
        for name in ("temperature", "top_k", "no_repeat_ngram_size"):
            value = getattr(self, name)
            cli.require(value is None or value >= 0, name, value, "must not be negative")
        penalty, top_p, min_p = self.repetition_penalty, self.top_p, self.min_p
        cli.require(
            penalty is None or penalty > 0, "repetition_penalty", penalty, "must be above 0"
        )
        rule = "must be above 0 and at most 1"
        cli.require(top_p is None or 0 < top_p <= 1, "top_p", top_p, rule)
        rule = "must be between 0 and 1"
        cli.require(min_p is None or 0 <= min_p <= 1, "min_p", min_p, rule)
        cli.require(0 <= self.seed < 2**31, "seed", self.seed, "must be between 0 and 2³¹ − 1")
        cli.require(all(self.stop), "stop", "''", "must not be empty")
        self._check_together()

    def _check_together(self) -> None:
        for name in CHANCE if self.num_beams else ():
            exclude("num_beams", self.num_beams, name, getattr(self, name))
        for name in CHANCE[1:] if self.temperature == 0 else ():
            exclude("temperature", 0, name, getattr(self, name))
        exclude("prompt", self.prompt, "file", self.file)
        several, beams = self.num_returned, self.num_beams
        rule = "needs --num_beams or --temperature: the likeliest text is only one"
        cli.require(several == 1 or bool(beams) or self.by_chance, "num_returned", several, rule)
        rule = f"must be at most --num_beams {beams}"
        cli.require(beams is None or several <= beams, "num_returned", several, rule)
        rule = "needs --prompt or --file: a chat is not written to a file"
        cli.require(self.output == "-" or not self.is_chat, "output", self.output, rule)

    @property
    def by_chance(self) -> bool:
        """Whether tokens are drawn."""
        given = any(getattr(self, name) is not None for name in CHANCE)
        return given and self.temperature != 0

    def given(self, *names: str) -> dict[str, Any]:
        """Give those of some flags that are not left open."""
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_chat(self) -> bool:
        """Whether a person types prompts."""
        nothing = self.prompt is None and self.file is None
        return nothing and sys.stdin is not None and sys.stdin.isatty()

    @property
    def stops(self) -> list[str]:
        r"""Stop texts; a shell leaves `\n` as it is."""
        known = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
        return [re.sub(r"\\[nt\\]", lambda found: known[found[0]], text) for text in self.stop]


class Writer(Protocol):
    """Something that writes."""

    remembers: bool
    """Whether a prompt is the turns of a conversation so far, one a line."""

    def prompts(self, given: Sequence[Given]) -> list[str]:
        """Make prompts of lines; InputError if one can't be one."""
        ...

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Give each prompt's texts."""
        ...

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give one text in pieces."""
        ...


def main(config: Config) -> None:
    """Prompts in, texts out."""
    config.check()
    with open_writer(config) as writer:
        if config.is_chat:
            chat(config, writer)
        elif config.prompt is None or config.output != "-":
            write_file(config, writer)
        else:
            write_one(config, writer, config.prompt)


def write_one(config: Config, writer: Writer, given: str) -> None:
    """Print the texts that follow a prompt, one as it comes."""
    [prompt] = made(writer, [cli.InputLine("--prompt", given)])
    if config.num_returned == 1:
        show(writer.stream(prompt))
    else:
        print("\n\n".join(writer.write([prompt])[0]))


def show(pieces: Generator[str, None, None]) -> str:
    """Print pieces as they come; Ctrl-C ends it."""
    shown = ""
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
        for piece in pieces:
            print(piece, end="", flush=True)
            shown += piece
    print(flush=True)
    return shown


def write_file(config: Config, writer: Writer) -> None:
    """Write one JSON object a prompt, in the prompts' order."""
    with (
        lines_of(config) as lines,
        cli.new_file(config.output, "output") as output,
        cli.progress("generating", "prompts") as done,
    ):

        def write(prompts: list[str]) -> list[list[str]]:
            texts = writer.write(prompts)
            done(len(prompts))
            return texts

        # Many lines at a time, so that lines of like length find one another.
        while block := list(itertools.islice(lines, 64 * config.batch_size)):
            found = training.generate_texts(
                write, made(writer, block), batch_size=config.batch_size, progress=False
            )
            for line, texts in zip(block, found, strict=True):
                answer: dict[str, Any] = {"prompt": line.given}
                if config.num_returned == 1:
                    answer["completion"] = texts[0]
                else:
                    answer["completions"] = texts
                print(json.dumps(answer, ensure_ascii=False), file=output)


@contextlib.contextmanager
def lines_of(config: Config) -> Iterator[Iterator[cli.InputLine]]:
    """Give the prompts of --prompt or --file."""
    if config.prompt is not None:
        yield iter([cli.InputLine("--prompt", config.prompt)])
        return
    with cli.input_lines(config.file or "-", "file") as lines:
        yield lines


def made(writer: Writer, lines: Sequence[cli.InputLine]) -> list[str]:
    """Make prompts of lines; a line that can't be one is named."""
    try:
        return writer.prompts([line.given for line in lines])
    except InputError:
        for line in lines:
            try:
                writer.prompts([line.given])
            except InputError as error:
                raise InputError(f"{line.place}: {error}") from error
        raise


def chat(config: Config, writer: Writer) -> None:
    """Answer what a person types, until Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets the arrow keys work
    anew = " An empty line begins anew." if writer.remembers else ""
    print(f"Type a text. Ctrl-C ends an answer, Ctrl-D the chat.{anew}", file=sys.stderr)
    turns: list[str] = []
    while True:
        try:
            typed = input("> ")
        except EOFError:
            print()
            return
        if writer.remembers and not typed.strip():
            turns = []
            continue
        turns = [*turns, typed] if writer.remembers else [typed]
        try:
            [prompt] = writer.prompts(["\n".join(turns)])
            turns.append(" ".join(show(writer.stream(prompt)).split()))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            turns.pop()


@contextlib.contextmanager
def open_writer(config: Config) -> Iterator[Writer]:
    """Load what writes: a model's folder, or a bundle."""
    folder = Path(config.model)
    if (folder / "run.json").is_file() or (folder / "checkpoints").is_dir():
        folder = folder / "model"
        if not folder.is_dir():
            raise InputError(f"the run in {config.model} has no model yet: let it finish")
    elif folder.is_dir() and not (folder / "config.json").is_file():
        serving.log_errors_only()
        bundle = serving.newest_version(folder)
        try:
            with serving.Session(bundle) as session:
                yield BundleWriter(config, session)
        except serving.SessionError as error:
            raise InputError(f"the bundle {bundle} can't answer: {error}") from error
        return
    yield FolderWriter(config, str(folder) if folder.is_dir() else config.model)


class FolderWriter:
    """A model of a transformers folder, or of the hub."""

    def __init__(self, config: Config, name_or_folder: str) -> None:
        """Load it."""
        from tfllm import generation, models, text
        from tfllm.data import templates

        self._model = models.CausalLM.from_pretrained(name_or_folder)
        self._tokenizer = text.load(name_or_folder)
        self._template = None if config.raw else templates.load_template(name_or_folder)
        self.remembers = isinstance(self._template, templates.DialogueTemplate)
        positions = self._model.max_positions
        new = config.max_new_tokens or min(64, max(1, positions // 2))
        rule = f"must be at most the model's {positions} positions"
        cli.require(new <= positions, "max_new_tokens", config.max_new_tokens, rule)
        self._most = positions - new + 1
        self._new_tokens = new
        self._config = config
        chosen = config.given(*CHANCE)
        self._sampling = generation.Sampling(**chosen) if config.by_chance else None
        chosen = config.given("repetition_penalty", "no_repeat_ngram_size")
        self._rules = generation.Rules(**chosen) if chosen else None
        beams = config.num_beams
        self._beam = generation.Beam(beams, num_returned=config.num_returned) if beams else None

    def prompts(self, given: Sequence[Given]) -> list[str]:
        """Apply the template, and refuse what is too long or empty."""
        prompts = [self._filled(one) for one in given]
        encoded = self._tokenizer.fast.encode_batch(prompts, add_special_tokens=False)
        for encoding in encoded:
            self._check(len(encoding.ids))
        return prompts

    def _filled(self, given: Given) -> str:
        if self._template is None:
            return fields_of(given, ("text",))["text"]
        import tensorflow as tf

        fields = fields_of(self._request(given), self._template.inputs)
        tensors = {name: tf.constant([value]) for name, value in fields.items()}
        return self._template.prompt_in_graph(tensors).numpy()[0].decode()

    def _request(self, given: Given) -> Given:
        """Take an example of the training data for what a request holds."""
        only = getattr(self._template, "prompt", None)
        if isinstance(given, str) or only is None or len(only.fields) != 1:
            return given
        return {"text": given[only.fields[0]], **given} if only.fields[0] in given else given

    def _check(self, tokens: int) -> None:
        if not tokens and self._tokenizer.bos_id is None:
            raise InputError(
                "the prompt is empty, and this model has no start token to begin with. Give a text"
            )
        if tokens > self._most and not self._config.slide:
            raise InputError(
                f"the prompt has {tokens} tokens, and with --max_new_tokens {self._new_tokens} "
                f"the model's {self._model.max_positions} positions have room for {self._most}. "
                "Shorten it, or give --slide to drop its beginning"
            )

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Give each prompt's texts; those drawn by chance differ by seed."""
        several = self._config.num_returned
        if self._beam:
            found = self._model.generate(list(prompts), beam=self._beam, **self._options())
            rows = found if several > 1 else [[text] for text in found]
        else:
            calls = [
                self._model.generate(list(prompts), sampling=self._drawn(n), **self._options())
                for n in range(several)
            ]
            rows = zip(*calls, strict=True)
        # Without the spaces of a template, as a bundle gives it.
        return [[text.strip() if self._template else text for text in row] for row in rows]

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give one text in pieces."""
        if self._beam:
            yield self.write([prompt])[0][0]
            return
        pieces = self._model.stream(prompt, sampling=self._drawn(0), **self._options())
        begun = not self._template
        for piece in pieces:
            shown = piece if begun else piece.lstrip()
            begun = begun or bool(shown)
            if shown:
                yield shown

    def _drawn(self, number: int) -> Any:
        """Settings of chance for one of several texts."""
        return self._sampling and self._sampling._replace(seed=self._config.seed + number)

    def _options(self) -> dict[str, Any]:
        return {
            "tokenizer": self._tokenizer,
            "max_new_tokens": self._new_tokens,
            "rules": self._rules,
            "stop": self._config.stops,
            "slide": self._config.slide,
        }


class BundleWriter:
    """A bundle, run as TensorFlow Serving runs it; a template is part of it."""

    remembers = False

    def __init__(self, config: Config, session: serving.Session) -> None:
        """See whether the bundle can do what was asked for."""
        cli.require(
            not config.raw, "raw", True, "is for a model's folder: a bundle fills templates"
        )
        self._session = session
        self._config = config
        settings = settings_of(config)
        self._name = "generate" if settings else "serving_default"
        if self._name not in session.signatures:
            raise InputError(
                f"{config.model} has no signature {self._name!r}, which flags of generation need. "
                f"It has: {', '.join(session.signatures)}"
            )
        self._inputs = session.signatures[self._name].inputs
        for flag in settings:
            if flag not in self._inputs:
                raise InputError(
                    f"--{flag} is nothing that {config.model} knows. Its signature "
                    f"{self._name!r} takes {', '.join(self._inputs)}. Give a model's folder"
                )
        taken = {name: value for name, value in NEUTRAL.items() if name in self._inputs}
        if "max_new_tokens" in self._inputs:
            taken["max_new_tokens"] = config.max_new_tokens or 64
        if "stop" in self._inputs:
            taken["stop"] = [""]
        self._settings = (taken if settings else {}) | settings
        self._fields = tuple(
            name for name, spec in self._inputs.items() if spec.dtype == "string" and name != "stop"
        )

    def prompts(self, given: Sequence[Given]) -> list[str]:
        """Give the fields of each, as JSON."""
        return [json.dumps(fields_of(one, self._fields)) for one in given]

    def write(self, prompts: Sequence[str]) -> list[list[str]]:
        """Send a request for each text of a prompt."""
        given = [json.loads(prompt) for prompt in prompts]
        columns: list[list[str]] = []
        for number in range(self._config.num_returned):
            rows: dict[str, Any] = {name: [one[name] for one in given] for name in self._fields}
            rows |= {name: self._rows(name, len(given), number) for name in self._settings}
            answers = self._session.run(self._name, rows)["text"]
            columns.append([text.decode(errors="replace") for text in answers])
        return [list(texts) for texts in zip(*columns, strict=True)]

    def _rows(self, name: str, count: int, number: int) -> Any:
        """The same setting for each row; the texts of one prompt differ by seed."""
        value, spec = self._settings[name], self._inputs[name]
        if name == "stop":
            return [value if len(spec.shape or ()) == 2 else value[0]] * count
        if name == "seed":
            value += number
        return np.full(count, value, spec.dtype)

    def stream(self, prompt: str) -> Generator[str, None, None]:
        """Give the whole text: a bundle answers all at once."""
        yield self.write([prompt])[0][0]


def settings_of(config: Config) -> dict[str, Any]:
    """Give the flags that ask a bundle for something else than its default."""
    names = [name for name in NEUTRAL if name != "seed"]
    given = config.given("max_new_tokens", "num_beams", *names)
    if config.by_chance:
        given = {"temperature": 1.0, "seed": config.seed, **given}
    if config.stop:
        given["stop"] = config.stops
    return given | ({"slide": True} if config.slide else {})


def fields_of(given: Given, names: Sequence[str]) -> dict[str, str]:
    """Take a line for a prompt's fields."""
    if isinstance(given, str) and len(names) == 1:
        return {names[0]: given}
    missing = [name for name in names if isinstance(given, str) or name not in given]
    if missing:
        raise InputError(
            f"a prompt has {', '.join(names)} here, and this has no {missing[0]!r}. Give a JSON "
            f"object in one line. Received: {json.dumps(given, ensure_ascii=False)[:80]}"
        )
    fields = {name: given[name] for name in names}  # type: ignore[index]
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InputError(f"{name!r} must be a text. Received: {json.dumps(value)[:80]}")
    return fields


def exclude(one: str, value: Any, other: str, other_value: Any) -> None:
    """Refuse two flags that are given together."""
    rule = f"and --{other} {other_value} exclude each other"
    cli.require(other_value is None or value is None, one, value, rule)


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
