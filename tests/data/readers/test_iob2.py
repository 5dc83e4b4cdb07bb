import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.data.readers import to_iob2


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("iob1", "I-P I-P B-P O I-L", "B-P I-P B-P O B-L"),
        ("iob1", "I-P I-L B-L", "B-P B-L B-L"),
        ("iob2", "B-P I-P O B-L", "B-P I-P O B-L"),
        ("bioes", "B-P I-P E-P S-L O S-P S-P", "B-P I-P I-P B-L O B-P B-P"),
        # Orders that a scheme does not have: seqeval and conlleval read spans into them.
        ("iob2", "O I-P I-P", "O B-P I-P"),
        ("iob2", "B-P I-L I-L", "B-P B-L I-L"),
        ("bioes", "B-P B-P", "B-P B-P"),
        ("bioes", "B-P I-P O", "B-P I-P O"),
        ("bioes", "E-P E-P", "B-P B-P"),
        ("bioes", "S-P I-P E-P", "B-P B-P I-P"),
        ("bioes", "B-P E-L", "B-P B-L"),
        ("bioes", "O E-P I-P", "O B-P B-P"),
        ("iob2", "B I O B", "B I O B"),
        ("iob2", "B-PER-NAM I-PER-NAM I-PER-NOM", "B-PER-NAM I-PER-NAM B-PER-NOM"),
        ("iob2", "", ""),
    ],
)
def test_examples(scheme, tags, expected):
    assert to_iob2(tags.split(), scheme) == expected.split()


@pytest.mark.parametrize(
    ("scheme", "tag"),
    [("iob2", "S-P"), ("iob1", "E-P"), ("bioes", "X-P"), ("iob2", "PER"), ("iob2", ""),
     ("iob2", "o"), ("iob2", "B-"), ("iob2", "O-P"), ("iob2", "BI-P"), ("bioes", "-P")],
)  # fmt: skip
def test_tags_of_another_scheme(scheme, tag):
    with pytest.raises(ValueError, match="has the tag .* has not: O, B-TYPE"):
        to_iob2(["O", tag], scheme)


spans = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("PL"), st.integers(1, 4)))


def write_spans(chosen, scheme: str) -> tuple[list[str], list[str]]:
    """Tags of spans (gap before, type, length) in a scheme and in IOB2."""
    tags: list[str] = []
    iob2: list[str] = []
    for gap, kind, length in chosen:
        tags += ["O"] * gap
        iob2 += ["O"] * gap
        if scheme == "iob1":
            first = "B" if tags and tags[-1][1:] == f"-{kind}" else "I"
            prefixes = first + "I" * (length - 1)
        elif scheme == "iob2":
            prefixes = "B" + "I" * (length - 1)
        else:
            prefixes = "S" if length == 1 else "B" + "I" * (length - 2) + "E"
        tags += [f"{prefix}-{kind}" for prefix in prefixes]
        iob2 += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
    return tags, iob2


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "bioes"])
@given(spans)
def test_every_set_of_spans_survives(scheme, chosen):
    tags, expected = write_spans(chosen, scheme)
    assert to_iob2(tags, scheme) == expected


any_tags = st.lists(
    st.sampled_from(["O", *(f"{p}-{k}" for p in "BIES" for k in ("P", "L"))]), max_size=12
)


def conlleval_spans(tags: list[str]) -> list[tuple[str, int, int]]:
    """Spans by the two tables of conlleval: at which pairs of tags one ends, and one starts."""
    ends = {"BB", "BS", "BO", "IB", "IS", "IO", *("E" + t for t in "BIESO")}
    ends |= {"S" + t for t in "BIESO"}
    starts = {last + t for last in "BIESO" for t in "BS"} | {"OE", "OI", "EE", "EI", "SE", "SI"}
    spans, begin, last, last_kind = [], 0, "O", ""
    for i, tag in enumerate([*tags, "O"]):
        now, kind = tag[0], tag[2:]
        changes = kind != last_kind
        if last != "O" and (last + now in ends or changes):
            spans.append((last_kind, begin, i - 1))
        if now != "O" and (last + now in starts or changes):
            begin = i
        last, last_kind = now, kind
    return spans


@given(any_tags)
def test_spans_are_conllevals_whatever_the_order_of_tags(tags):
    rewritten = to_iob2(tags, "bioes")
    assert conlleval_spans(rewritten) == conlleval_spans(tags)
    assert to_iob2(rewritten, "iob2") == to_iob2(rewritten, "iob1") == rewritten


@given(any_tags)
def test_spans_are_seqevals_whatever_the_order_of_tags(tags):
    get_entities = pytest.importorskip("seqeval.metrics.sequence_labeling").get_entities
    rewritten = to_iob2(tags, "bioes")
    assert get_entities(rewritten) == get_entities(tags) == conlleval_spans(tags)
