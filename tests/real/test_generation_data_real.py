"""Summaries, translations and dialogues as people publish them."""

import numpy as np
import pytest

from tfllm import text
from tfllm.data import CompletionEncoder, FastTokenizer, completion_batches, tasks
from tfllm.data.templates import DialogueTemplate, PairTemplate, Template

SUMMARY = PairTemplate(Template("{dialogue}\nTL;DR:"), Template(" {summary}"))
TRANSLATION = PairTemplate(Template("{source}\n"), Template("{target}"))
TALK = DialogueTemplate(Template("{speaker}: {text}\n"), "all")


@pytest.fixture(scope="module")
def fast(data) -> FastTokenizer:
    return FastTokenizer.of(text.load(data / "vocab" / "gpt2"))


@pytest.fixture(autouse=True)
def stores(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TFLLM_CACHE_DIR", str(tmp_path))


def test_samsum(data, fast):
    folder = data / "summarization" / "samsum"
    files = [[str(folder / f"{part}.jsonl")] for part in ("train", "validation", "test")]
    parts = tasks.read_completions(*files, template=SUMMARY)
    rows = [len([*reader]) for _, reader in parts.named()]
    assert rows == [14_732, 818, 819]
    packed = completion_batches(parts.validation, CompletionEncoder(fast, SUMMARY, 1024), 8)
    counts = packed.store.manifest.counts
    assert counts["prompts_cut"] == counts["examples_left_out"] == 0 and len(packed.store) == 818
    print(packed)
    assert packed.plan.real_share > 0.98
    short = completion_batches(parts.validation, CompletionEncoder(fast, SUMMARY, 128), 8)
    cut = short.store.manifest.counts
    assert cut["prompts_cut"] > 100 and cut["completions_cut"] == 0
    assert int((short.store.lengths("input_ids") == 128).sum()) >= cut["prompts_cut"]
    if not cut["examples_left_out"]:
        assert short.targets == packed.targets


def test_multi30k(data, fast):
    folder = data / "translation" / "multi30k_en_de"
    pair = [f"{folder / 'val.en'}:{folder / 'val.de'}"]
    parts = tasks.read_completions(pair, pair, template=TRANSLATION)
    (question, *_) = TRANSLATION.questions(next(iter(parts.train)))
    assert question.request == "A group of men are loading cotton onto a truck"
    assert question.reference.startswith("Eine Gruppe von Männern lädt Baumwolle")
    packed = completion_batches(parts.train, CompletionEncoder(fast, TRANSLATION, 128), 8, seed=0)
    assert len(packed.store) == 1_014 and packed.plan.real_share > 0.95


def test_dailydialog(data, fast):
    folder = data / "dialogue" / "dailydialog"
    files = [[str(folder / f"dialogues_{part}.txt")] for part in ("train", "validation")]
    parts = tasks.read_dialogues(*files)
    dialogues = [*parts.validation]
    assert len(dialogues) == 1_000 and len([*parts.train]) >= 11_117
    assert not any("__eou__" in turn for talk in dialogues for turn in talk["turns"])
    packed = completion_batches(dialogues, CompletionEncoder(fast, TALK, 1024), 8, seed=0)
    assert packed.store.manifest.counts["completions_cut"] == 0
    assert packed.plan.real_share > 0.98
    # An end for each turn.
    targets, weights = packed.store.values("targets"), packed.store.values("weights")
    ends = int(((targets == fast.eos_id) & (weights == 1)).sum())
    assert ends == sum(len(talk["turns"]) for talk in dialogues)
    # What a request's prompt is tokenized to is what was learnt before the reply.
    for talk in dialogues[:200]:
        (question,) = TALK.questions(talk)
        whole = fast.fast.encode(question.prompt, add_special_tokens=False).ids
        pieces = TALK.pieces(talk)
        encoded = [fast.fast.encode(p.text, add_special_tokens=False).ids for p in pieces[:-1]]
        np.testing.assert_array_equal(whole, sum(encoded, []))
