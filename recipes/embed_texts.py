r"""Turn texts into vectors, and export what does it for TF Serving.

    python recipes/embed_texts.py --pretrained sentence-transformers/all-MiniLM-L6-v2 \
        --texts questions.txt --output questions.npy
    python recipes/embed_texts.py

Without --texts the texts are sentences that tfllm brings; without --pretrained the model is a small
BERT that nobody has trained, whose vectors are good for a try only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from tfllm import cli, data, export, models, serving, text, training
from tfllm.data import readers, tasks


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    texts: tuple[str, ...] = ()
    """Files of texts, one a line, or globs in quotes. Blank lines get no vector."""
    output: str = "vectors.npy"
    """NumPy file of float32 vectors, one a text, in the texts' order; must not exist yet."""
    pretrained: str | None = None
    """A local transformers or sentence-transformers folder, or a name on the hub."""
    pooling: Literal["mean", "first", "max"] | None = None
    """How tokens become one vector. Default: what --pretrained says, or mean."""
    normalise: bool | None = None
    """Whether vectors have length 1. Default: what --pretrained says, or yes."""
    sequence_length: int = 256
    """Tokens after which a text is cut off."""
    batch_size: int = 32
    """Texts in a batch; those of like length are."""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of a bundle to export; none is exported without it."""
    allow_pickle: bool = False
    """Read --pretrained's pytorch_model.bin, a pickle, which can run code. Needs torch."""
    seed: int = 0
    """Decides the weights of a model that nobody has trained."""


def main(config: Config) -> None:
    """Texts in, vectors out."""
    # 1. Texts
    for name in ("sequence_length", "batch_size"):
        cli.require(getattr(config, name) >= 1, name, getattr(config, name), "must be at least 1")
    target = Path(config.output)
    cli.require(target.suffix == ".npy", "output", config.output, "must end in .npy")
    cli.require(not target.exists(), "output", config.output, "exists already")
    cli.check_writable(target, "output")
    cli.check_writable(Path(config.export_dir), "export_dir")
    if config.export_name is not None:
        export.check_name(config.export_name)
    examples: readers.Reader = (
        readers.PlainText(data.find_files(config.texts, "--texts"), unit="line")
        if config.texts
        else tasks.read_examples(fields=tasks.text_fields()).train
    )

    # 2. Model
    training.set_seed(config.seed)
    tokenizer = (
        text.load(config.pretrained)
        if config.pretrained
        else text.train_wordpiece((example["text"] for example in examples), 2048)
    )
    model = create_model(config, tokenizer)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    signatures = model.signatures(preprocess)  # refuses what does not fit, before the work

    # 3. Vectors: tokenized once, in batches of like length
    encoder = data.TextEncoder(data.FastTokenizer.of(tokenizer), config.sequence_length)
    rows = data.task_batches(examples, encoder, config.batch_size)
    vectors = training.predict_rows(model, rows).outputs["vector"]
    with cli.new_file(config.output, "output", binary=True) as file:
        np.save(file, vectors)
    lines = sum(path.read_bytes().count(b"\n") for path in examples.files if path.suffix != ".gz")
    if lines > len(vectors):
        print(f"{lines - len(vectors):,} blank lines were passed over and have no vector.")
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers are in {target}.")
    for line in neighbours(examples, vectors):
        print(line)

    # 4. Export
    if config.export_name is not None:
        bundle = export.export_bundle(
            signatures,
            config.export_dir,
            config.export_name,
            modules=[model, preprocess],
            probes=model.probes(),
            card=export.Card("text embedding"),
        )
        print(f"\nThe bundle {bundle} maps text to vectors. Serve it:")
        print(f"\n    {serving.docker_run_line(bundle)}\n")


def create_model(config: Config, tokenizer: text.Tokenizer) -> models.TextEmbedder:
    """Load the model, or make one up."""
    if config.pretrained:
        return models.TextEmbedder.from_pretrained(
            config.pretrained,
            pooling=config.pooling,
            normalise=config.normalise,
            pickle=config.allow_pickle,
        )
    print("No --pretrained: the model is a small BERT that nobody has trained.")
    sizes = models.small_bert_config(
        tokenizer,
        positions=config.sequence_length,
        num_layers=2,
        num_heads=4,
        hidden_dim=128,
        dropout=0.0,
    )
    return models.TextEmbedder.from_config(
        sizes, pooling=config.pooling, normalise=config.normalise
    )


def neighbours(examples: readers.Reader, vectors: np.ndarray, shown: int = 3) -> Iterator[str]:
    """Show the text that is nearest to each of the first ones, by the cosine of their vectors."""
    texts = [example["text"] for example in examples]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, 1e-12)
    for row in range(min(shown, len(texts) - 1)):
        cosines = unit @ unit[row]
        cosines[row] = -1.0
        nearest = int(cosines.argmax())
        yield f"\n  {texts[row][:90]}\n  {cosines[nearest]:.3f}  {texts[nearest][:90]}"


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
