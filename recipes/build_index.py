r"""Make a corpus searchable: vectors of its documents, and a bundle that finds them for a query.

    python recipes/build_index.py --pretrained sentence-transformers/all-MiniLM-L6-v2 \
        --corpus scifact --judged test --export_name scifact
    python recipes/build_index.py --pretrained runs/finetune/model --corpus 'docs/*.jsonl'

The bundle holds the corpus and its vectors, and scores every document: query in, documents out. A
run that was stopped goes on where it was when it is started again.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, retrieval, serving, text, training
from tfllm.data import readers, tasks
from tfllm.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of this recipe."""

    pretrained: str = ""
    """What embeds texts: a sentence-transformers or transformers folder, or a name on the hub."""
    query_pretrained: str | None = None
    """What embeds queries, if it is another model, as finetune_retrieval.py --towers two leaves."""
    corpus: tuple[str, ...] = ()
    """Documents: .txt, one a line; .jsonl, .csv, .tsv, .parquet; or one folder in BEIR's layout."""
    document_id: str = "_id"
    """Field of a document's id."""
    title: str = "title"
    """Field of its title, which may be missing."""
    text: str = "text"
    """Field of its text."""
    on_error: Literal["refuse", "skip"] = "refuse"
    """Whether a document that can't be read ends the run, or is left out."""
    output: str = "index"
    """Folder of vectors.npy, float32, one row a document, and of --faiss's index.faiss."""
    faiss: Literal["flat", "hnsw", "ivf"] | None = None
    """Build an index of FAISS as well: exact, a graph, or cells. Needs tfllm[faiss]."""
    sequence_length: int = 256
    """Tokens after which a document or a query is cut off."""
    batch_size: int = 32
    """Documents in a batch; those of like length are."""
    judged: str | None = None
    """Of a folder in BEIR's layout: measure with the queries of qrels/JUDGED.tsv, in float32."""
    k: int = 10
    """Documents that the bundle's default signature gives."""
    export_dir: str = "savedmodels"
    """Folder that TF Serving bundles go to."""
    export_name: str | None = None
    """Name of a bundle to export; none is exported without it."""
    storage: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the bundle's weights and vectors are stored as."""
    allow_pickle: bool = False
    """Read --pretrained's pytorch_model.bin, a pickle, which can run code. Needs torch."""

    def check(self) -> None:
        """Refuse what can't be done, before TensorFlow is imported."""
        rule = "must name what embeds texts; without a trained model a search finds nothing"
        cli.require(bool(self.pretrained), "pretrained", self.pretrained, rule)
        cli.require(bool(self.corpus), "corpus", self.corpus, "must name the documents' files")
        for name in ("sequence_length", "batch_size", "k"):
            cli.require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("query_pretrained", "output", "export_dir"):
            cli.require(getattr(self, name) != "", name, "''", "must not be empty")
        cli.check_writable(Path(self.output), "output")
        cli.check_writable(Path(self.export_dir), "export_dir")
        if self.export_name is not None:
            export.check_name(self.export_name)


def main(config: Config) -> None:
    """Documents in, vectors and a search out."""
    # 1. Corpus; what can be refused is refused before TensorFlow is imported
    config.check()
    documents = tasks.read_documents(
        config.corpus,
        document_id=config.document_id,
        title=config.title,
        text=config.text,
        on_error=config.on_error,
    )
    judged = judgements(config)
    count = sum(1 for _ in documents)  # refuses what can't be read, before the work
    fits = config.export_name is None or config.k <= count
    cli.require(fits, "k", config.k, f"must be at most {count}, the documents of the corpus")
    print(f"{count:,} documents. Starting TensorFlow …")
    if config.faiss is not None:
        retrieval.FaissIndex.build(np.zeros([1, 1]))  # refuses where its library is missing

    # 2. Model
    tokenizer = text.load(config.pretrained)
    model = models.TextEmbedder.from_pretrained(config.pretrained, pickle=config.allow_pickle)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    model.signatures(preprocess)  # refuses what does not fit, before the work
    if config.query_pretrained is None:
        asker = model
    else:
        asker, preprocess = of_queries(config, model)

    # 3. Vectors, in batches of like length; they go on where a run was stopped
    encoder = data.TextEncoder(data.FastTokenizer.of(tokenizer), config.sequence_length)
    output = Path(config.output)
    vectors = retrieval.embed_corpus(
        output / "vectors.npy",
        training.RowPredictor(model),
        data.task_batches(documents, encoder, config.batch_size),
        width=model.config.hidden_size,
        digest=models.digest_of_model(model),
    )
    print(f"{len(vectors):,} documents, vectors of {vectors.shape[1]} numbers: {config.output}.")
    if config.faiss is not None:
        retrieval.FaissIndex.build(vectors, config.faiss).save(output / "index.faiss")
        print(f"The index of FAISS ({config.faiss}) is {output / 'index.faiss'}.")
    if judged is None and config.export_name is None:
        return  # a search would take all vectors and texts into memory
    search = models.CorpusSearch(
        asker,
        vectors,
        ids=[document["id"] for document in documents],
        texts=[document["text"] for document in documents],
    )

    # 4. Measure
    if judged is not None:
        measured = metrics.ranking(ranked(search, preprocess, judged), judged.scores)
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
        print(f"{len(judged.queries):,} queries of {config.judged}: {numbers}.")

    # 5. Export
    if config.export_name is not None:
        bundle = export.export_bundle(
            search.signatures(preprocess, k=config.k),
            config.export_dir,
            config.export_name,
            modules=[search, preprocess],
            probes=search.probes(),
            card=export.Card("search in a corpus"),
            storage=config.storage,
        )
        print(f"\nThe bundle {bundle} finds documents.")
        print(f"\n{serving.serve_commands_text(bundle, example_query(documents))}\n")


def example_query(documents: readers.Reader) -> str:
    """Give a query that the first document answers: its title, or how it begins."""
    first = next(iter(documents))
    return first["title"] or " ".join(first["text"].split()[:8])


def judgements(config: Config) -> data.Judged | None:
    """Read queries and the documents that answer them; refuse what can't be measured."""
    if config.judged is None:
        return None
    folder = config.corpus[0]
    rule = "is for a folder in BEIR's layout"
    is_folder = len(config.corpus) == 1 and os.path.isdir(folder)
    cli.require(is_folder, "judged", config.judged, rule)
    metrics.ranking({}, {})  # refuses where its library is missing
    judged = data.Judged()
    try:
        for pair in readers.Beir(folder, config.judged, on_error=config.on_error):
            judged.add(pair["query_id"], pair["query"], pair["document_id"], pair["score"])
    except InputError as error:
        raise InputError(f"--judged {config.judged}: {error}") from error
    answered = any(score > 0 for scores in judged.scores.values() for score in scores.values())
    rule = "names no document that answers a query, and nothing can be measured"
    cli.require(answered, "judged", config.judged, rule)
    return judged


def of_queries(
    config: Config, model: models.TextEmbedder
) -> tuple[models.TextEmbedder, text.Preprocessor]:
    """Load what embeds queries, and see that it fits the documents' model."""
    source = config.query_pretrained or ""
    asker = models.TextEmbedder.from_pretrained(source, pickle=config.allow_pickle)
    widths = [embedder.config.hidden_size for embedder in (asker, model)]
    rule = f"makes vectors of {widths[0]} numbers, and --pretrained of {widths[1]}"
    cli.require(widths[0] == widths[1], "query_pretrained", source, rule)
    preprocess = text.Preprocessor(text.load(source), sequence_length=config.sequence_length)
    asker.signatures(preprocess)
    return asker, preprocess


def ranked(
    search: models.CorpusSearch, preprocess: text.Preprocessor, judged: data.Judged
) -> dict[str, dict[str, float]]:
    """Search for the judged queries: query's id → document's id → score, a hundred and one each."""
    queries = judged.queries
    # One may be the query itself, which does not count.
    ask = search.signatures(preprocess, k=101)["serving_default"]
    found = {}
    for first in range(0, len(queries), 32):
        part = list(queries)[first : first + 32]
        answer = ask([queries[query] for query in part])
        names, scores = answer["ids"].numpy().astype(str), answer["scores"].numpy().tolist()
        for query, *row in zip(part, names, scores, strict=True):
            found[query] = dict(zip(*row, strict=True))
    return found


if __name__ == "__main__":
    cli.tool(Config, main, __file__)
