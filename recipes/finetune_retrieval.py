r"""Fine-tune an embedder so that queries find the documents that answer them, and export it.

    python recipes/finetune_retrieval.py
    python recipes/finetune_retrieval.py --pretrained sentence-transformers/all-MiniLM-L6-v2 \
        --train scifact --test_judged test --export_name scifact
    python recipes/finetune_retrieval.py --pretrained sentence-transformers/all-MiniLM-L6-v2 \
        --train pairs.jsonl --towers two

Then make a corpus searchable, and train a re-ranker on the hard negatives that were mined:

    python recipes/build_index.py --pretrained runs/finetune_retrieval/model --corpus scifact
    python recipes/finetune_text_classifier.py --pretrained bert-base-uncased \
        --train runs/finetune_retrieval/reranker_pairs.jsonl \
        --text query --text_pair document --label relevant

--towers two saves RUN/model/query and RUN/model/document: give build_index.py the second as
--pretrained and the first as --query_pretrained.

Without flags the documents are portraits that tfllm brings, and queries describe what stands there
in other words; the model is a small BERT from scratch. It needs tfllm[retrieval].
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfllm import cli, data, export, metrics, models, retrieval, serving, text, training
from tfllm.data import tasks
from tfllm.errors import InputError

# Documents that a search gives: recall is measured at a hundred, and a query may find itself.
FOUND = 101


@dataclasses.dataclass(frozen=True)
class Config(cli.FineTuningConfig):
    """Flags of this recipe."""

    train: tuple[str, ...] = ()
    """A folder in BEIR's layout; or pairs, a query and a document that answers it: .jsonl, .csv,
    .tsv or .parquet, whose documents together are the corpus."""
    validation_fraction: float = 0.05
    """Share of the queries held out where no others are named for it, between 0 and 1."""
    judged: str = "train"
    """Of a folder: learn from qrels/JUDGED.tsv."""
    validation_judged: str | None = None
    """Of a folder: validate with these. Default: the queries of --judged are split by a hash."""
    test_judged: str | None = None
    """Of a folder: test with these, once, in the whole corpus, with the best weights."""
    query: str = "query"
    """Of pairs: field of the query."""
    document: str = "document"
    """Of pairs: field of the document that answers it."""
    negatives: str = "negatives"
    """Of pairs: field of a list of texts that do not answer it, which may be missing."""
    learning_rate: float | None = None
    """Highest learning rate. Default: 2e-5 with --pretrained, 1e-3 from scratch."""
    towers: Literal["shared", "two"] = "shared"
    """One embedder for queries and documents, or one for each, which begin alike."""
    temperature: float = 0.05
    """Scores are divided by it: the lower, the more the nearest negatives count."""
    hard_negatives: int = 1
    """Hard negatives of each row, beside the other rows' documents; 0 for none."""
    hard_negative_pool: int = 30
    """Best documents by BM25 that a query's hard negatives are drawn from, anew in each epoch."""
    false_negative_margin: float | None = None
    """Documents that score above the right one by more than this are no negatives; a cosine."""
    validation_documents: int | None = None
    """Validate among so many documents: all that are judged there, and others. Default: all."""
    projected: int = 1000
    """Documents, and at most as many queries, that TensorBoard's projector shows."""
    best_metric: Literal["ndcg_10", "mrr_10", "recall_100"] = "ndcg_10"
    """What of the validation says which weights are kept."""
    reranker_negatives: int = 4
    """Hard negatives of each query in RUN/reranker_pairs.jsonl; 0: no such file."""

    def check(self) -> None:
        """Refuse what can't be trained, before TensorFlow is imported."""
        super().check()
        rule = "must be 1: micro-batches would hide most of a query's negatives from it"
        cli.require(self.accumulate_steps == 1, "accumulate_steps", self.accumulate_steps, rule)
        heat = self.temperature
        cli.require(heat >= 1e-6, "temperature", heat, "must be at least 1e-6")
        cli.require(not self.new_head, "new_head", self.new_head, "is for models with a head")
        for name in ("hard_negatives", "reranker_negatives", "projected"):
            cli.require(getattr(self, name) >= 0, name, getattr(self, name), "must be at least 0")
        for name in ("hard_negative_pool", "validation_documents"):
            value = getattr(self, name)
            cli.require(value is None or value >= 1, name, value, "must be at least 1")
        adapted = self.lora_rank is None or self.towers == "shared"
        cli.require(adapted, "lora_rank", self.lora_rank, "is for --towers shared")

    def peak_learning_rate(self) -> float:
        """The highest learning rate, given or by default."""
        return self.learning_rate or (2e-5 if self.pretrained else 1e-3)


def main(config: Config, run: cli.Run) -> None:
    """Queries with documents in, embedder and SavedModel out."""
    # 1. Corpus, queries, negatives. What can be refused is refused before TensorFlow is imported.
    run.say(f"Reading {' '.join(config.train) or 'the portraits that tfllm brings'} …")
    metrics.ranking({}, {})  # refuses where its library is missing
    parts = tasks.read_retrieval(
        config.train,
        config.validation,
        config.test,
        judged=config.judged,
        validation_judged=config.validation_judged,
        test_judged=config.test_judged,
        query=config.query,
        document=config.document,
        negatives=config.negatives,
        validation_fraction=config.validation_fraction,
        on_error=config.on_error,
    )
    bundle_name = config.export_name or f"embedder-{parts.name}"
    export.check_name(bundle_name)
    pairs = with_hard_negatives(config, parts)
    run.say(f"{parts}; {len(pairs):,} pairs to learn from.")

    # 2. Seed and devices
    run.say("Starting TensorFlow …")
    from tfllm import optimization

    strategy = training.set_up(**config.device_options())

    # 3. Vocabulary and model
    source = tokenizer_source(config)
    tokenizer = (
        text.load(source)
        if source
        else text.train_wordpiece(texts_of(parts), config.vocabulary_size)
    )
    with strategy.scope():
        model = create_model(config, tokenizer, run)
    preprocess = text.Preprocessor(tokenizer, sequence_length=config.sequence_length)
    model.signatures(preprocess)  # refuses what can't be served, before training
    run.say(f"Model: {model.config.model_type}, {model.count_params():,} parameters.")

    # 4. Data: tokenized once; each row is a query, its document and hard negatives
    encoder = data.TextEncoder(data.FastTokenizer.of(tokenizer), config.sequence_length)
    train = data.RetrievalBatches(
        data.build_array_store(parts.train.examples(), encoder),
        data.build_array_store(parts.documents, encoder),
        pairs,
        features=encoder.features,
        num_negatives=config.hard_negatives,
        global_batch_size=config.global_batch_size,
        seed=config.seed,
    )
    run.add_data(parts.name, train.documents.manifest.counts)
    total_steps = config.total_steps(train.steps_per_epoch)
    optimization.compile_model(
        model,
        config.peak_learning_rate(),
        total_steps=total_steps,
        beta_2=0.999,
        **config.compile_options(),
    )
    best_weights = optimization.weights_to_measure(model)
    card = export.Card("text embedding", metrics=run.metrics)
    if config.dry_run:
        first = train.store.row("input_ids", 0)
        run.try_out(
            tokenizer.fast.decode(first, skip_special_tokens=False),
            functools.partial(publish, config, model, preprocess, card, bundle_name),
            lambda: training.estimate(model, train.dataset).text(total_steps),
        )
        return

    # 5. Fit; after each epoch the corpus is searched; the model ends with its best weights
    def report(
        judged: data.Judged, documents: list[dict[str, str]], part: str
    ) -> training.RetrievalReport:
        ids = [document["id"] for document in documents]
        return training.RetrievalReport(
            model,
            data.task_batches(judged.examples(), encoder, config.global_batch_size),
            data.task_batches(documents, encoder, config.global_batch_size),
            functools.partial(retrieval.exact_search, k=FOUND),
            functools.partial(measured, judged, ids),
            run.directory / "tensorboard",
            lines=functools.partial(found_lines, judged, ids),
            predictions_path=run.directory / f"{part}_predictions.jsonl",
            points=points(config, judged, documents) if part == "validation" else None,
            measured_within=best_weights,
        )

    with run.timed("train"):
        trained = training.train_task(
            model,
            train,
            report(parts.validation, validation_documents(config, parts), "validation"),
            run_dir=run.open(),
            total_steps=total_steps,
            best_metric=training.BestMetric.named(config.best_metric),
            **config.run_options(),
        )
    run.add(trained)
    if parts.test is not None:
        with run.timed("test"):
            found = report(parts.test, [*parts.documents], "test").evaluate()
        run.metrics |= {f"test_{name}": value for name, value in found.items()}
    if not run.is_chief:
        return

    # 6. Export, and try the bundle in a fresh process
    run.say("Exporting: the bundle is loaded back in a fresh process and compared …")
    with run.timed("export"), best_weights():
        saved = model.query if config.towers == "shared" else model
        models.save_trained(saved, run.directory, tokenizer, adapters=bool(config.lora_rank))
        bundle = publish(config, model, preprocess, card, bundle_name, config.export_dir)
    run.export = str(bundle)
    write_reranker_pairs(config, parts, pairs, run.directory / "reranker_pairs.jsonl")
    shown = next(iter(parts.validation.queries.values()))
    run.say(serving.next_commands_text(bundle, run.directory / "tensorboard", shown))


def with_hard_negatives(config: Config, parts: tasks.RetrievalParts) -> data.JudgedPairs:
    """Number the pairs, and mine hard negatives for the queries that bring none."""
    pairs = parts.train.pairs(parts.place_of)
    count, there = config.hard_negatives, len(parts.place_of)
    rule = f"must be below the number of documents, {there:,}"
    cli.require(count < there, "hard_negatives", count, rule)
    if not count:
        return pairs
    try:
        index = retrieval.Bm25(document["text"] for document in parts.documents)
    except InputError as error:
        raise InputError(f"--hard_negatives {count}: {error}, or --hard_negatives 0") from error
    queries = [*parts.train.queries.values()]
    return pairs.with_negatives(
        retrieval.mine_hard_negatives(index, queries, pairs.known(), config.hard_negative_pool)
    )


def texts_of(parts: tasks.RetrievalParts) -> Iterator[str]:
    """Give all texts that may be learnt from, for a vocabulary of their own."""
    yield from parts.train.queries.values()
    for document in parts.documents:
        yield document["text"]


def tokenizer_source(config: Config) -> str | None:
    """Say where the vocabulary is: a folder of two towers has the same one in each of them."""
    tower = os.path.join(config.pretrained or "", "query")
    if config.pretrained and os.path.isdir(tower):
        return tower
    return config.pretrained or config.tokenizer


def create_model(config: Config, tokenizer: text.Tokenizer, run: cli.Run) -> models.DualEncoder:
    """Load or create the embedders, and freeze what is not to be trained."""
    how: dict[str, Any] = {
        "temperature": config.temperature,
        "false_negative_margin": config.false_negative_margin,
        "seed": config.seed,
    }
    if not config.pretrained:
        sizes = models.small_bert_config(
            tokenizer, positions=config.sequence_length, **config.sizes()
        )
        return models.DualEncoder.from_config(sizes, towers=config.towers, **how)
    model = models.DualEncoder.from_pretrained(
        config.pretrained, towers=config.towers, pickle=config.allow_pickle, **how
    )
    for tower in model.towers.values():
        changes = models.adapt(tower, **config.adaptation())
        if changes:
            run.say(changes)
    return model


def validation_documents(config: Config, parts: tasks.RetrievalParts) -> list[dict[str, str]]:
    """Give the documents that validation searches: all, or those judged and some others."""
    if config.validation_documents is None:
        return [*parts.documents]
    wanted = {name for scores in parts.validation.scores.values() for name in scores}
    others = [name for name in parts.place_of if name not in wanted]
    spare = max(0, config.validation_documents - len(wanted))
    wanted |= set(others[:: max(1, len(others) // max(1, spare))][:spare])
    return [document for document in parts.documents if document["id"] in wanted]


def ranked(judged: data.Judged, ids: list[str], found: Any) -> dict[str, dict[str, float]]:
    """Name what was found: query's id → document's id → score, best first."""
    return {
        query: {ids[place]: float(score) for place, score in zip(places, scores, strict=True)}
        for query, places, scores in zip(judged.queries, *found, strict=True)
    }


def measured(judged: data.Judged, ids: list[str], found: Any) -> dict[str, float]:
    """Score a search."""
    return metrics.ranking(ranked(judged, ids, found), judged.scores)


def found_lines(judged: data.Judged, ids: list[str], found: Any) -> Iterator[dict[str, Any]]:
    """Write each query with its ten best documents beside those that answer it."""
    for query, scores in ranked(judged, ids, found).items():
        yield {
            "id": query,
            "query": judged.queries[query],
            "relevant": judged.scores[query],
            "found": dict(list(scores.items())[:10]),
        }


def points(
    config: Config, judged: data.Judged, documents: list[dict[str, str]]
) -> training.Points | None:
    """Choose what the projector shows: documents that answer a query, then others."""
    if not config.projected:
        return None
    queries = judged.examples()[: config.projected]
    answers = {name for query in queries for name in judged.scores[query["id"]]}
    rows = sorted(range(len(documents)), key=lambda row: documents[row]["id"] not in answers)
    chosen = rows[: config.projected]
    return training.Points(queries, [documents[row] for row in chosen], np.array(chosen))


def write_reranker_pairs(
    config: Config, parts: tasks.RetrievalParts, pairs: data.JudgedPairs, path: Path
) -> None:
    """Write each query with documents that answer it (1) and hard negatives (0)."""
    if not (config.hard_negatives and config.reranker_negatives):
        return
    texts = [document["text"] for document in parts.documents]
    path.unlink(missing_ok=True)  # of a run that got as far before
    with cli.new_file(str(path), "run_dir") as file:
        for row, query in enumerate(parts.train.queries.values()):
            negatives = pairs.negatives[row, : config.reranker_negatives]
            for places, label in ((pairs.relevant[row], 1), (negatives, 0)):
                for place in places[places >= 0]:
                    pair = {"query": query, "document": texts[place], "relevant": label}
                    file.write(json.dumps(pair, ensure_ascii=False) + "\n")


def publish(
    config: Config,
    model: models.DualEncoder,
    preprocess: text.Preprocessor,
    card: export.Card,
    name: str,
    folder: str,
) -> Path:
    """Export the embedders, proven, as the next version of a bundle."""
    return export.export_bundle(
        model.signatures(preprocess),
        folder,
        name,
        modules=[model, preprocess],
        probes=model.probes(),
        card=card,
        **config.export_options(),
    )


if __name__ == "__main__":
    cli.main(Config, main, __file__)
