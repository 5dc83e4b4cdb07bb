import math
import subprocess
import sys

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from tfllm import metrics
from tfllm.errors import InputError

TEXT_METRICS = [name for name in metrics.GENERATION_METRICS if name != "perplexity"]


def test_rouge_by_hand():
    # cat, sat of "the cat sat" and "a cat sat down"; one pair; both words stand in order.
    found = metrics.generation(["rouge"], ["The cat sat."], ["a cat sat down"])
    precision, recall = 2 / 3, 2 / 4
    f1 = 2 * precision * recall / (precision + recall)
    pairs = 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)
    wanted = {"rouge1": f1, "rouge2": pairs, "rougeL": f1, "rougeLsum": f1}
    assert found == pytest.approx({name: 100 * value for name, value in wanted.items()})


def test_stems():
    pair = (["rouge"], ["nobody walking"], ["nobody walks"])
    assert metrics.generation(*pair)["rouge1"] == pytest.approx(100)
    assert metrics.generation(*pair, stemmer=False)["rouge1"] == pytest.approx(50)


def test_the_best_of_several_references():
    references = [["nothing like it", "the cat sat"], ["a dog ran"]]
    found = metrics.generation(["rouge", "exact_match"], ["the cat sat", "a cat ran"], references)
    assert found["rouge1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert found["exact_match"] == 50


def test_bleu_and_chrf_are_sacrebleus():
    predictions = ["The cat sat on the mat there.", "Two dogs ran away from it", ""]
    references = [
        ["The cat sat on a mat there.", "A cat was sitting on the mat."],
        ["Two dogs ran away from her"],
        ["Nothing"],
    ]
    streams = [["The cat sat on a mat there.", "Two dogs ran away from her", "Nothing"]]
    streams += [["A cat was sitting on the mat.", None, None]]
    found = metrics.generation(["bleu", "chrf"], predictions, references)
    assert found["bleu"] == sacrebleu.corpus_bleu(predictions, streams).score > 20
    assert found["chrf"] == sacrebleu.corpus_chrf(predictions, streams).score > 20


def test_distinct_by_hand():
    # 7 words of which "the" occurs twice, 5 pairs of which "the cat" occurs twice.
    found = metrics.generation(["distinct"], ["the cat sat,", "the cat ran"], ["", ""])
    assert found == {"distinct_1": 5 / 7, "distinct_2": 4 / 5}


def test_chinese():
    pair = (["今天天气好"], ["今天天气不好"])
    found = metrics.generation(TEXT_METRICS, *pair, words="zh")
    assert found["rouge1"] == pytest.approx(100 * 2 * 5 / (5 + 6))
    assert found["bleu"] == sacrebleu.corpus_bleu(pair[0], [pair[1]], tokenize="zh").score > 30
    assert found["distinct_1"] == 4 / 5  # 天 twice
    with pytest.raises(InputError, match=r"no reference has any, such as '今天天气不好'"):
        metrics.generation(["rouge"], *pair)
    mixed = metrics.generation(["rouge"], ["用 TensorFlow 训练"], ["TensorFlow"], words="zh")
    assert mixed["rouge1"] == pytest.approx(100 * 2 * (1 / 4) / (1 / 4 + 1))


def test_cyrillic_by_character():
    found = metrics.generation(["rouge"], ["да"], ["дай"], words="char")
    assert found["rouge1"] == pytest.approx(100 * 2 * 2 / 5)


@pytest.mark.parametrize("pair", [([], []), ([""], [""]), (["a b"], [""]), ([" "], ["a b c"])])
@pytest.mark.parametrize("words", ["13a", "zh", "char"])
def test_nothing_is_never_nan(pair, words):
    found = metrics.generation(TEXT_METRICS, *pair, words=words)
    expected = {key for name in TEXT_METRICS for key in metrics.GENERATION_METRICS[name]}
    assert found.keys() == expected
    assert all(math.isfinite(value) for value in found.values())
    assert found["exact_match"] == (100 if pair == ([""], [""]) else 0)
    assert found["bleu"] == found["rougeL"] == 0


texts = st.text(st.sampled_from("ab c.,A9\n我é"), max_size=12)


@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), max_size=4))
def test_as_rouge_score_and_sacrebleu_by_hand(examples):
    predictions = [text for text, _ in examples]
    references = [[f"{text} x" for text in several] for _, several in examples]
    found = metrics.generation(TEXT_METRICS, predictions, references)
    assert all(0 <= value <= 100 + 1e-9 for value in found.values())
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    each = [
        max(scorer.score(one, text)["rougeL"].fmeasure for one in several)
        for text, several in zip(predictions, references, strict=True)
    ]
    assert found["rougeL"] == pytest.approx(100 * sum(each) / max(1, len(each)))
    again = metrics.generation(["bleu"], predictions[::-1], references[::-1])
    assert again["bleu"] == pytest.approx(found["bleu"])


def test_perplexity_is_of_the_loss():
    assert metrics.generation(["perplexity"], [], [], loss=0.0) == {"perplexity": 1.0}
    with pytest.raises(InputError, match="perplexity is of a loss"):
        metrics.generation(["perplexity"], [], [])


def test_signatures():
    found = metrics.signatures(["rouge", "bleu", "chrf", "distinct"])
    number = sacrebleu.__version__
    assert found["bleu"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{number}"
    assert found["chrf"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{number}"
    assert found["rouge"].startswith("nrefs:1|stem:yes|tok:default|version:0.1.")
    assert set(found) == {"rouge", "bleu", "chrf"}
    found = metrics.signatures(["rouge", "bleu"], words="zh", references=3)
    assert found["bleu"].startswith("nrefs:3|") and "|tok:zh|" in found["bleu"]
    assert found["rouge"].startswith("nrefs:3|stem:no|tok:zh|")
    assert metrics.signatures(["chrf"], references="var")["chrf"].startswith("nrefs:var|")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["meteor"], [], []), "no metric 'meteor'.*rouge, bleu"),
        ((["bleu"], ["a"], []), "equally many. Received: 1 and 0"),
        ((["bleu"], ["a", "b"], [["a"], []]), "example 1, counted from 0, has no reference"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(InputError, match=message):
        metrics.generation(*arguments)
    with pytest.raises(InputError, match="meteor"):
        metrics.signatures(["meteor"])


def test_a_library_is_imported_when_its_metric_is_asked_for():
    code = (
        "import sys; from tfllm import metrics; metrics.generation(['exact_match'], ['a'], ['a'])\n"
        "print([name in sys.modules for name in ('sacrebleu', 'rouge_score', 'sklearn')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[False, False, False]\n"
