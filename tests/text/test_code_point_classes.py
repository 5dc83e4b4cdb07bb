import random

from tokenizers import Regex, pre_tokenizers

from tfllm.text.code_point_classes import LETTER, NUMBER, OTHER, PAGE_SIZE, SPACE, code_point_pages


def class_of(character):
    table = code_point_pages()
    place, within = divmod(ord(character), PAGE_SIZE)
    return table.pages[table.page_of[place], within]


def test_known_characters():
    expected = {"a": LETTER, "ß": LETTER, "東": LETTER, "1": NUMBER, "²": NUMBER, " ": SPACE}
    expected.update({"\u2028": SPACE, "!": OTHER, "\x00": OTHER, "\u200b": OTHER, "\x1c": OTHER})
    assert {c: class_of(c) for c in expected} == expected


def test_every_code_point_has_a_class():
    table = code_point_pages()
    assert len(table.page_of) * PAGE_SIZE == 0x110000
    assert table.pages.nbytes < 100_000


def test_a_sample_equals_each_class_by_itself():
    sample = random.Random(0).sample(range(0x40000), 5000)
    characters = [chr(c) for c in sample if not 0xD800 <= c < 0xE000]
    for kind, pattern in {LETTER: r"\p{L}", NUMBER: r"\p{N}", SPACE: r"\s"}.items():
        split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
        members = {piece for piece, _ in split.pre_tokenize_str("".join(characters))}
        assert members == {c for c in characters if class_of(c) == kind}
