import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.cleaning import (
    Cleaner,
    Length,
    LetterShare,
    Removal,
    RepeatedLines,
    RepeatedPhrases,
    Symbols,
    UnicodeRepair,
    WordLength,
    gopher_steps,
)
from tfllm.data.cleaning.words import units
from tfllm.errors import InputError

ENGLISH = """The old lighthouse on the northern cape was built by fishermen who had lost too many
boats to the rocks. They carried every stone up the cliff by hand, and it took eleven summers.

When the lamp was lit for the first time, people came from three valleys to see it burn, and some
of them stayed. Today nobody lives there any more, but the light still turns through the night."""
CHINESE = """这家酒店位于市中心，交通非常方便，走路五分钟就能到地铁站。房间虽然不大，
但是打扫得很干净，床也睡得舒服。早餐种类丰富，服务员态度热情。唯一不足的是晚上有点吵，
希望以后能改善隔音效果。总体来说性价比不错，下次出差还会选择这里，也会推荐给身边的朋友和同事们入住体验一下。"""
THAI = "ภาษาไทยเขียนโดยไม่เว้นวรรคระหว่างคำและผู้อ่านต้องแบ่งคำเองตามความหมายของประโยคนั้น"
RUSSIAN = """Старый маяк на северном мысе построили рыбаки, потерявшие слишком много лодок
на камнях. Каждый камень они поднимали на скалу руками, и работа заняла одиннадцать лет подряд."""
HINDI = """पुराना प्रकाशस्तंभ उत्तरी अंतरीप पर उन मछुआरों ने बनाया था जिन्होंने चट्टानों पर बहुत सी नावें खो दी थीं।
वे हर पत्थर को हाथ से चट्टान के ऊपर ले गए और इस काम में ग्यारह गर्मियाँ लगीं।"""


def judge(step, document: str) -> str | None:
    """The reason for which a step removes a document, None if it keeps it as it is."""
    answer = step.begin()(document)
    assert isinstance(answer, Removal) or answer == document
    return answer.reason if isinstance(answer, Removal) else None


@pytest.mark.parametrize(
    "text", [ENGLISH, CHINESE, THAI, RUSSIAN, HINDI, CHINESE.replace("，", " ")]
)
def test_prose_of_every_script_passes_all_rules(text):
    cleaner = Cleaner(gopher_steps(least_words=20))
    assert list(cleaner.clean([text])) == [text]
    assert len(cleaner.report()) == 6


def test_units():
    assert units("My 酒店, ok हिन्दी ไทย") == ["My", "酒", "店", ",", "ok", "हिन्दी", *"ไทย"]


@given(st.text())
def test_units_lose_nothing_but_white_space(text):
    assert "".join(units(text)) == "".join(text.split())


def test_length():
    assert judge(Length(least_characters=3), "ab") == "2 characters, fewer than 3"
    assert judge(Length(least_characters=3, most_characters=3), "abc") is None
    assert judge(Length(most_characters=3), "abcd") == "4 characters, more than 3"
    assert judge(Length(least_words=3), "a b") == "2 words, fewer than 3"
    assert judge(Length(least_words=3), "酒店 a") is None
    assert judge(Length(most_words=2), "酒店 a") == "3 words, more than 2"


def test_letter_share():
    assert judge(LetterShare(), "a b c d 1") is None
    assert (
        judge(LetterShare(), "a b c 1 2") == "3 of 5 words hold a letter, a smaller share than 80%"
    )
    assert judge(LetterShare(least=0.6), "a b c 1 2") is None
    assert judge(LetterShare(), "价格299元 ok") is None


def test_word_length():
    assert judge(WordLength(), "abc " * 9) is None
    assert judge(WordLength(), "a bc " * 9) == "words of 1.5 characters on average, not 3 to 10"
    assert judge(WordLength(), "x" * 11) == "words of 11.0 characters on average, not 3 to 10"
    assert judge(WordLength(), "酒 " * 9) is None
    assert judge(WordLength(least=1), "a bc") is None


def test_symbols():
    assert judge(Symbols(), "# word " * 3) == "3 hash marks in 6 words"
    assert judge(Symbols(), "word " * 10 + "#") is None
    assert judge(Symbols(), "wait ... what … no") == "2 ellipses in 5 words"
    assert judge(Symbols(), "好的……" + "酒" * 9) is None
    bullets = "• first thing\n- second thing\n* third thing"
    assert judge(Symbols(), bullets) == "3 of 3 lines begin with a bullet"
    assert judge(Symbols(), bullets + "\nand prose") is None
    cut = "read more about all the many things in this one place ...\n"
    assert judge(Symbols(), cut + "a line\nanother line\n" * 2) is None
    assert judge(Symbols(), (cut + "prose that goes on\n") * 3) is not None
    assert judge(Symbols(), cut) is None


def test_repeated_lines():
    assert judge(RepeatedLines(), "a\nb\nc\nd\n\n\n") is None
    assert judge(RepeatedLines(), "a\nb\na\n b \na") == "3 of 5 lines are repeated"
    long = "menu " * 30
    lines = "\n".join([f"line number {i} is some prose" for i in range(9)] + [long, long])
    assert judge(RepeatedLines(), lines) == "28% of the characters are in repeated lines"
    # 149 of 9 · 27 + 2 · 149.
    paragraphs = "\n\n".join(["a\nb", "c\nd", "e\nf", "a\nb"])
    assert judge(RepeatedLines(most=0.5, most_characters=0.3), paragraphs) is None
    assert judge(RepeatedLines(most=0.24, most_characters=1), paragraphs) is not None


def test_repeated_phrases():
    assert judge(RepeatedPhrases(), ENGLISH) is None
    # 3 · 6 of 18 + 19 characters.
    buy = "buy now buy now buy now one two three four five"
    assert judge(RepeatedPhrases(), buy) == "49% is one run of 2 words"
    sentence = ENGLISH.split(".")[0]
    assert "repeated runs of 5 words" in judge(RepeatedPhrases({}), f"{sentence}. {sentence}")
    assert judge(RepeatedPhrases(), CHINESE * 2) is not None
    assert judge(RepeatedPhrases({}, {}), "a a a a a a") is None
    assert judge(RepeatedPhrases(), "x") is None


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.integers(2, 6))
def test_repeated_runs_by_brute_force(letters, length):
    """Characters that lie in a run whose words all stood, in this order, somewhere before."""
    covered = set()
    for i in range(len(letters) - length + 1):
        run = letters[i : i + length]
        if any(letters[j : j + length] == run for j in range(i)):
            covered |= set(range(i, i + length))
    share = len(covered) / len(letters)
    document = " ".join(letters)
    assert (judge(RepeatedPhrases({}, {length: share + 1e-9}), document)) is None
    if share:
        assert judge(RepeatedPhrases({}, {length: share - 1e-9}), document) is not None


def test_long_documents_go_through():
    """Would not end in a morning if a rule were quadratic in the words."""
    draw = random.Random(0)
    text = " ".join(f"word{draw.randrange(5_000)}" for _ in range(60_000))
    assert list(Cleaner(gopher_steps()).clean([text])) == [text]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("schÃ¶n und âœ” gut", "schön und ✔ gut"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("red \x1b[31mhot\x1b[0m \x00end", "red hot end"),
        ("e\u0301", "é"),
        ("你好，世界！（ok）", "你好，世界！（ok）"),
        ("“curly” ﬁne &amp; ｗｉｄｅ", "“curly” ﬁne &amp; ｗｉｄｅ"),
    ],
)
def test_unicode_repair(before, after):
    pytest.importorskip("ftfy")
    assert list(Cleaner([UnicodeRepair()]).clean([before])) == [after]


def test_unicode_repair_does_more_if_asked():
    pytest.importorskip("ftfy")
    step = UnicodeRepair(entities=True, straight_quotes=True, plain_width=True)
    (text,) = Cleaner([step]).clean(["“curly” ﬁne &amp; ｗｉｄｅ"])
    assert text == '"curly" fine & wide'


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(InputError, match=r"needs ftfy, .*pip install 'tfllm\[clean\]'"):
        next(Cleaner([UnicodeRepair()]).clean(["a"]))
