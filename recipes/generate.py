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
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import tyro

from tfllm import cli, serving, training
from tfllm.errors import InputError
from tfllm.models import generation_defaults


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(cli.GenerationConfig):
    """Flags of this recipe."""

    model: tyro.conf.Positional[str]
    """A run's folder, a transformers folder, a name on the hub, or a bundle."""
    prompt: str | None = None
    """Go on from this text, and print what comes as it comes."""
    file: str | None = None
    """Go on from each line of a file; - reads what is piped in."""
    output: str = "-"
    """File of answers, which must not exist yet; - prints them."""
    raw: bool = False
    """Leave the template out that the model was trained with."""
    batch_size: int = 16
    """Prompts of a file that are answered together; those of like length are."""

    def check(self) -> None:
        """Refuse what contradicts itself, before TensorFlow is imported."""
        super().check()
        cli.require(bool(self.model), "model", "''", "must not be empty")
        beams, most = self.num_beams, generation_defaults.MOST_BEAMS
        cli.require(beams is None or beams <= most, "num_beams", beams, f"must be at most {most}")
        cli.require(self.batch_size >= 1, "batch_size", self.batch_size, "must be at least 1")
        self.exclude("prompt", "file")
        rule = "needs --prompt or --file: a chat is not written to a file"
        cli.require(self.output == "-" or not self.is_chat, "output", self.output, rule)

    @property
    def is_chat(self) -> bool:
        """Whether a person types prompts."""
        nothing = self.prompt is None and self.file is None
        return nothing and sys.stdin is not None and sys.stdin.isatty()


def main(config: Config) -> None:
    """Prompts in, texts out."""
    config.check()
    if config.is_chat:
        with open_writer(config) as writer:
            cli.chat(writer)
    elif config.prompt is None or config.output != "-":
        # Files first: one that can't be read or written is told at once.
        with (
            lines_of(config) as lines,
            cli.new_file(config.output, "output") as output,
            open_writer(config) as writer,
        ):
            write_file(config, writer, lines, output)
    else:
        with open_writer(config) as writer:
            write_one(config, writer, config.prompt)


@contextlib.contextmanager
def open_writer(config: Config) -> Iterator[cli.Writer]:
    """Load what writes: a model's folder, or a bundle."""
    folder = Path(config.model)
    check_open(folder)
    if (folder / "run.json").is_file() or (folder / "checkpoints").is_dir():
        folder = folder / "model"
        if not folder.is_dir():
            raise InputError(f"the run in {config.model} has no model yet: let it finish")
    elif folder.is_dir() and not (folder / "config.json").is_file():
        cli.require(
            not config.raw, "raw", True, "is for a model's folder: a bundle fills templates"
        )
        with open_bundle(config, version_in(folder)) as writer:
            yield writer
        return
    yield load_model(config, str(folder) if folder.is_dir() else config.model)


def check_open(folder: Path) -> None:
    """Refuse a folder that may not be read."""
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"the folder {folder} can't be read: permission denied")


def version_in(folder: Path) -> Path:
    """Find a bundle's newest version; of a folder of bundles, say which there are."""
    try:
        return serving.newest_version(folder)
    except InputError:
        found = sorted(p.parent.parent.name for p in folder.glob("*/[0-9]*/saved_model.pb"))
        if not found:
            raise
        names = ", ".join(dict.fromkeys(found))
        raise InputError(
            f"{folder} is a folder of bundles: {names}. Give one, as in {folder / found[0]}"
        ) from None


@contextlib.contextmanager
def open_bundle(config: Config, bundle: Path) -> Iterator[cli.Writer]:
    """Run a bundle as TensorFlow Serving does."""
    serving.log_errors_only()
    settings, several = config.of_a_bundle(), config.num_returned
    try:
        with serving.Session(bundle) as session:
            yield cli.BundleWriter(session, config.model, settings, num_returned=several)
    except serving.SessionError as error:
        raise InputError(f"the bundle {bundle} can't answer: {error}") from error


def load_model(config: Config, name_or_folder: str) -> cli.Writer:
    """Load a model, its vocabulary and its template."""
    from tfllm import generation, models, text
    from tfllm.data import templates

    model = models.CausalLM.from_pretrained(name_or_folder)
    chance, rules, beams = config.chance(), config.rules(), config.num_beams
    several = config.num_returned
    return cli.ModelWriter(
        model,
        text.load(name_or_folder),
        None if config.raw else templates.load_template(name_or_folder),
        max_new_tokens=config.max_new_tokens,
        sampling=generation.Sampling(**chance) if chance else None,
        rules=generation.Rules(**rules) if rules else None,
        beam=generation.Beam(beams, num_returned=several) if beams else None,
        num_returned=several,
        stop=config.stops,
        slide=config.slide,
    )


def write_one(config: Config, writer: cli.Writer, given: str) -> None:
    """Print the texts that follow a prompt, one as it comes."""
    [prompt] = made(writer, [cli.InputLine("--prompt", given)])
    if config.num_returned == 1:
        cli.show_pieces(writer.stream(prompt))
    else:
        print("\n\n".join(writer.write([prompt])[0]))


def write_file(
    config: Config, writer: cli.Writer, lines: Iterator[cli.InputLine], output: IO[str]
) -> None:
    """Write one JSON object a prompt, in the prompts' order."""
    with cli.progress("generating", "prompts") as done:

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
        first = next(lines, None)
        if first is None:
            raise InputError(f"--file {config.file or '-'} holds no prompt. Give one a line")
        yield itertools.chain([first], lines)


def made(writer: cli.Writer, lines: Sequence[cli.InputLine]) -> list[str]:
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


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
