"""Metrics of generated text on whole published data sets, held against the libraries by hand."""

import json

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from tfllm import metrics


def test_samsum_summarized_by_its_first_turns(data):
    path = data / "summarization" / "samsum" / "validation.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    turns = [row["dialogue"].splitlines()[:3] for row in rows]
    predictions = ["\n".join(lines) for lines in turns]
    references = [row["summary"] for row in rows]
    found = metrics.generation(["rouge", "distinct"], predictions, references)

    names = list(metrics.GENERATION_METRICS["rouge"])
    scorer = rouge_scorer.RougeScorer(names, use_stemmer=True)
    each = [scorer.score(*pair) for pair in zip(references, predictions, strict=True)]
    for name in names:
        mean = sum(score[name].fmeasure for score in each) / len(each)
        assert found[name] == pytest.approx(100 * mean)
    assert 25 < found["rouge1"] < 35  # what a summarizer has to beat
    assert 0 < found["distinct_1"] < found["distinct_2"] < 1


@pytest.mark.parametrize("language", ["de", "en"])
def test_multi30k(data, language):
    folder = data / "translation" / "multi30k_en_de"

    def lines(name: str) -> list[str]:
        return (folder / name).read_text(encoding="utf-8").split("\n")[:1000]

    references = lines(f"test_2016_flickr.{language}")
    predictions = lines("test_2016_flickr.en")
    if language == "en":  # of two references the other is no caption of the picture
        references = [[one, other] for one, other in zip(references[::-1], references, strict=True)]
    found = metrics.generation(["bleu", "chrf", "exact_match"], predictions, references)
    streams = list(zip(*references, strict=True)) if language == "en" else [references]
    streams = [list(stream) for stream in streams]
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    assert found["bleu"] == bleu.corpus_score(predictions, streams).score
    assert found["chrf"] == chrf.corpus_score(predictions, streams).score
    named = metrics.signatures(["bleu", "chrf"], references=len(streams))
    assert named == {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    if language == "en":
        assert found == pytest.approx(dict.fromkeys(found, 100.0))
    else:  # to copy the English is no translation
        assert found["bleu"] < 5 and found["exact_match"] < 1


def test_chinese_reviews(data):
    path = data / "classification" / "chnsenticorp_hotel"
    file = next(path.glob("*.csv"))
    reviews = [line.split(",", 1)[1] for line in file.read_text("utf-8-sig").splitlines()[1:300]]
    predictions = [review[: len(review) // 2] for review in reviews]
    found = metrics.generation(["bleu", "rouge"], predictions, reviews, words="zh")
    wanted = sacrebleu.corpus_bleu(predictions, [reviews], tokenize="zh").score
    assert found["bleu"] == pytest.approx(wanted)
    # Half of a text: every word is right, and half of them are there.
    assert 60 < found["rouge1"] < 72 and abs(found["rouge1"] - found["rougeL"]) < 1e-9
