r"""Export a model that is there already, as a bundle for TF Serving.

    python recipes/export_savedmodel.py --model runs/finetune_text_classifier
    python recipes/export_savedmodel.py --model ./all-MiniLM-L6-v2 --export_name minilm
    python recipes/export_savedmodel.py --model gpt2 --storage bfloat16 --keep_versions 3

--model is the folder of a finished run, a transformers folder, or a name on the hub. What it is
for is read from its config.json; what a run was trained with is read from its run.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tfllm import cli, export, models, serving, text
from tfllm.data import templates
from tfllm.errors import InputError
from tfllm.models import checkpoint_files

TaskName = Literal[
    "auto",
    "text_classification",
    "token_classification",
    "question_answering",
    "embedding",
    "generation",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    model: str
    """A finished run's folder, a transformers folder, or a name on the hub."""
    task: TaskName = "auto"
    """What the model is for. Default: what its config.json says."""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of the bundle. Default: the model's name."""
    sequence_length: int | None = None
    """Tokens of a row or window. Default: the run's, or the model's positions, at most 512."""
    text_pair: bool = False
    """Of a text classifier: a row has two texts. A run says so itself."""
    windows: bool = False
    """Of a text classifier: read long texts whole, in windows. A run says so itself."""
    overlap: int | None = None
    """Tokens that a window shares with the one before it. Default: the run's, or the model's."""
    max_question_tokens: int | None = None
    """Where longer questions are cut. Default: the run's, or 64."""
    max_new_tokens: int | None = None
    """Of generation: the most tokens of a reply. Default: the run's, or 48."""
    num_beams: int | None = None
    """Of generation: the default signature searches with so many beams. Default: the run's."""
    temperature: float | None = None
    """Of generation: how freely it draws; 0 takes the likeliest token. Default: the run's, or 0."""
    top_k: int | None = None
    """Of generation: it draws among so many tokens; 0 for all. Default: the run's, or all."""
    top_p: float | None = None
    """Of generation: it draws among tokens whose shares add up to it. Default: the run's, or 1."""
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    """What matrices are stored as. Arithmetic is float32: half the disk, the same speed."""
    keep_versions: int | None = None
    """Versions that stay, this one included; older ones are removed. Default: all."""
    notes: str = ""
    """More for the model card: data, licence, what the model is not for. Markdown."""
    allow_pickle: bool = False
    """Read pytorch_model.bin, a pickle, which can run code. Needs torch."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the model comes from, and what is known of how it was made."""

    folder: str | Path
    config: Mapping[str, Any]
    """Flags of its run; empty without one."""
    metrics: Mapping[str, float]

    def setting(self, config: Config, name: str, default: Any = None) -> Any:
        """Give a flag, or else what the run had."""
        given = getattr(config, name)
        if given is not None and given is not False:
            return given
        found = self.config.get(name)
        return default if found is None else found


@dataclasses.dataclass(frozen=True)
class Served:
    """What `export_bundle` is given."""

    signatures: dict[str, Any]
    modules: Sequence[Any]
    probes: Mapping[str, Any]
    labels: Sequence[str] = ()


def main(config: Config) -> None:
    """A folder in, a bundle out."""
    # 1. What it is. What can be refused is refused before TensorFlow is imported.
    for name in ("model", "export_name"):
        cli.require(getattr(config, name) != "", name, "''", "must not be empty")
    for name in ("sequence_length", "max_question_tokens", "keep_versions"):
        value = getattr(config, name)
        cli.require(value is None or value >= 1, name, value, "must be at least 1")
    source = source_of(config.model)
    task = chosen_task(config, source)
    check_flags(config, task)
    if task == "generation":
        templates.load_template(source.folder)
        generation_defaults(config, source)
    name = config.export_name or default_name(config.model)
    export.check_name(name)
    cli.check_writable(Path(config.export_dir), "export_dir")

    # 2. The model, and what it serves
    print(f"Loading {source.folder} for {task.replace('_', ' ')} …", flush=True)
    served = TASKS[task](config, source)

    # 3. The bundle
    print("Exporting; the bundle is loaded in a fresh process and compared …", flush=True)
    bundle = export.export_bundle(
        served.signatures,
        config.export_dir,
        name,
        modules=served.modules,
        probes=served.probes,
        card=export.Card(task.replace("_", " "), served.labels, source.metrics, config.notes),
        storage=config.storage,
        keep=config.keep_versions,
    )
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    print(f"The bundle {bundle} has {size / 1e6:,.1f} MB; {bundle.parent}/README.md describes it.")
    print(f"Serve it:\n\n    {serving.docker_run_line(bundle)}")


def chosen_task(config: Config, source: Source) -> str:
    """Take the task that is given, where the model can do it, or that of the model."""
    if config.task == "auto":
        return task_of(source.folder)
    path = checkpoint_files.find(source.folder, "config.json")
    kind = None if path is None else model_config(path).get("model_type")
    rule = f"can't be done by {source.folder}, a GPT-2: it is for generation"
    cli.require(kind != "gpt2" or config.task == "generation", "task", config.task, rule)
    return config.task


def check_flags(config: Config, task: str) -> None:
    """Refuse flags that are for other tasks, since they would change nothing."""
    for name, own in TASKS_OF_FLAGS.items():
        given = getattr(config, name)
        fits = given is None or given is False or task in own
        cli.require(fits, name, given, f"is for {' and '.join(own)}, and this is {task}")


def source_of(model: str) -> Source:
    """Find the model's folder and, where it is a run's, the run's flags and numbers."""
    folder = Path(model)
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"--model {model} can't be read: permission denied")
    record = folder / "run.json"
    if not record.is_file():
        if (folder / "checkpoints").is_dir():
            raise InputError(f"--model {model} is a run that is not finished: it has no run.json")
        return Source(model, {}, {})
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        config, metrics = dict(found["config"]), dict(found["metrics"])
        check_record(config, metrics)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record} can't be read as a run's record: {error!r}") from error
    if not (folder / "model").is_dir():
        raise InputError(f"--model {model} is a run without model/: give a transformers folder")
    return Source(folder / "model", config, metrics)


def check_record(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """See that what is read from a run is of the kind that it should be.

    Raises:
        TypeError: naming what is not.
    """
    for name in ("sequence_length", "overlap", "max_question_tokens"):
        if not isinstance(config.get(name), int | None):
            raise TypeError(f"{name} is {config[name]!r:.60}, not a whole number")
    for name, value in metrics.items():
        if not isinstance(value, int | float):
            raise TypeError(f"the metric {name} is {value!r:.60}, not a number")


def task_of(name_or_folder: str | Path) -> str:
    """Read the task from `config.json`'s architectures."""
    path = checkpoint_files.find(name_or_folder, "config.json")
    if path is None:
        raise InputError(
            f"--model {name_or_folder} is no run's folder, no transformers folder (it has no "
            "config.json) and no name that can be downloaded"
        )
    listed = model_config(path).get("architectures") or ()
    names = [str(name) for name in (listed if isinstance(listed, list | tuple) else [listed])]
    for ending, task in ARCHITECTURES.items():
        if any(name.endswith(ending) for name in names):
            return task
    known = ", ".join(TASKS)
    raise InputError(
        f"{path} names the architectures {', '.join(names) or 'none'}, none of which is known. "
        f"Give --task, one of {known}"
    )


def model_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} is no model's configuration: it holds no JSON object")
    return config


def default_name(model: str) -> str:
    """Make a bundle's name of a folder's or a hub's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).absolute().name).strip("-.")
    return f"model-{name}" if not name or name.isdecimal() else name


def preprocessor(config: Config, source: Source, positions: int) -> Any:
    """Make what turns texts into rows."""
    tokenizer = text.load(source.folder)
    length = source.setting(config, "sequence_length", min(positions, 512))
    return text.Preprocessor(
        tokenizer,
        sequence_length=length,
        truncation=source.config.get("truncation") or "longest_first",
    )


def positions_of(model: Any) -> int:
    """Say how many tokens a row of a model may have."""
    from tfllm.models import backbones

    return backbones.traits(model.backbone).max_tokens


def text_classifier(config: Config, source: Source) -> Served:
    """Texts → labels."""
    model = models.TextClassifier.from_pretrained(source.folder, pickle=config.allow_pickle)
    preprocess = preprocessor(config, source, positions_of(model))
    pair = bool(source.setting(config, "text_pair", False))
    windows = bool(source.setting(config, "windows", False))
    overlap = {"overlap": config.overlap} if config.overlap is not None else {}
    signatures = model.signatures(preprocess, pair=pair, windows=windows, **overlap)
    return Served(signatures, [model, preprocess], model.probes(pair=pair), model.labels)


def token_classifier(config: Config, source: Source) -> Served:
    """Texts → entities."""
    model = models.TokenClassifier.from_pretrained(source.folder, pickle=config.allow_pickle)
    preprocess = preprocessor(config, source, positions_of(model))
    signatures = model.signatures(preprocess, overlap=source.setting(config, "overlap"))
    return Served(signatures, [model, preprocess], model.probes(), model.labels)


def question_answerer(config: Config, source: Source) -> Served:
    """Questions and contexts → answers."""
    model = models.QuestionAnswerer.from_pretrained(source.folder, pickle=config.allow_pickle)
    preprocess = preprocessor(config, source, min(positions_of(model), 384))
    signatures = model.signatures(
        preprocess,
        overlap=source.setting(config, "overlap", 128),
        max_question_tokens=source.setting(config, "max_question_tokens", 64),
    )
    return Served(signatures, [model, preprocess], model.probes())


def text_embedder(config: Config, source: Source) -> Served:
    """Texts → vectors."""
    model = models.TextEmbedder.from_pretrained(source.folder, pickle=config.allow_pickle)
    preprocess = preprocessor(config, source, positions_of(model))
    return Served(model.signatures(preprocess), [model, preprocess], model.probes())


def causal_lm(config: Config, source: Source) -> Served:
    """Prompts → replies, or a template's fields → replies."""
    model = models.CausalLM.from_pretrained(source.folder)
    tokenizer = text.load(source.folder)
    defaults = generation_defaults(config, source)
    signatures = model.signatures(tokenizer, **defaults.arguments())
    probes: Mapping[str, Any] = model.probes(tokenizer)
    template = templates.load_template(source.folder)
    if template is not None:
        signatures = templates.with_template(signatures, template)
        probes = templates.with_template_probes(probes, template, export.AWKWARD_TEXTS, tokenizer)
    return Served(signatures, [model, tokenizer], probes)


def generation_defaults(config: Config, source: Source) -> models.GenerationDefaults:
    """Let the flags change what the run's bundle did by default."""
    found = models.GenerationDefaults.load(source.folder)
    try:
        return found.changed(**{name: getattr(config, name) for name in GENERATION})
    except InputError as error:
        raise InputError(f"--{error}") from error


# Flags of generation.
GENERATION = ("max_new_tokens", "num_beams", "temperature", "top_k", "top_p")

# Flags → the tasks that they are for.
CLASSIFIED = ("text_classification", "token_classification")
TASKS_OF_FLAGS: dict[str, tuple[str, ...]] = {
    "sequence_length": (*CLASSIFIED, "question_answering", "embedding"),
    "text_pair": ("text_classification",),
    "windows": ("text_classification",),
    "overlap": (*CLASSIFIED, "question_answering"),
    "max_question_tokens": ("question_answering",),
    "allow_pickle": (*CLASSIFIED, "question_answering", "embedding"),
    **dict.fromkeys(GENERATION, ("generation",)),
}

TASKS: dict[str, Callable[[Config, Source], Served]] = {
    "text_classification": text_classifier,
    "token_classification": token_classifier,
    "question_answering": question_answerer,
    "embedding": text_embedder,
    "generation": causal_lm,
}

# The end of a class's name in config.json → what the model is for; the first that fits counts.
ARCHITECTURES = {
    "ForSequenceClassification": "text_classification",
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
    "ForQuestionAnsweringSimple": "question_answering",
    "LMHeadModel": "generation",
    "ForMaskedLM": "embedding",
    "Model": "embedding",
}


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
