import json
import pickle

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfllm.data.templates import (
    DialogueTemplate,
    PairTemplate,
    Piece,
    Question,
    Template,
    load_template,
    save_template,
)
from tfllm.errors import InputError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PAIR = PairTemplate(Template("{article}\nTL;DR:"), Template(" {summary}"))
CHAT = DialogueTemplate(Template("{speaker}: {text}\n"))
TALK = {"turns": ["hi", "ho", "ha"], "speakers": ["A", "B", "A"]}


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS | st.sampled_from(["a", "b"]).map(lambda n: (n,)), max_size=5), TEXTS, TEXTS)
def test_graph_and_python_fill_alike(parts, a, b):
    """Whatever stands around the fields and in them, braces and NULs included."""
    spelt = (p.replace("{", "{{").replace("}", "}}") if isinstance(p, str) else p for p in parts)
    template = Template("".join(p if isinstance(p, str) else f"{{{p[0]}}}" for p in spelt))
    wanted = "".join(p if isinstance(p, str) else {"a": a, "b": b}[p[0]] for p in parts)
    assert template.fill({"a": a, "b": b, "c": "unused"}) == wanted
    fields = {"a": tf.constant([a.encode(), b""]), "b": tf.constant([b.encode(), b"x"])}
    filled = template.fill_in_graph(fields).numpy().tolist()
    assert filled == [wanted.encode(), template.fill({"a": "", "b": "x"}).encode()]
    assert Template.from_config(json.loads(json.dumps(template.to_config()))) == template


def test_a_template_by_hand():
    template = Template("{a} {{and}} {b}{a}")
    assert template.fields == ("a", "b")
    assert template.fill({"a": "1", "b": "{a}"}) == "1 {and} {a}1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a.b}", r"has the field '\{a.b\}', and fields are plain names"),
        ("{a[0]}", r"has the field '\{a\[0\]\}'"),
        ("{a.__class__.__init__}", "plain names"),
        ("{a!r}", r"has the field '\{a!r\}'"),
        ("{a:>9}", r"has the field '\{a:>9\}'"),
        ("{a:{b}}", "plain names"),
        ("{}", "plain names"),
        ("{a", "can't be read: expected '}'"),
        ("a}", "can't be read: Single '}'"),
    ],
)
def test_more_than_names_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Template(text)
    with pytest.raises(InputError, match=f"--prompt_template: .*{message}"):
        Template.of_flag(text, "--prompt_template")


def test_fields_that_an_example_lacks():
    with pytest.raises(InputError, match="no text in field 'b', .* Its fields: a, c"):
        Template("{a}{b}").fill({"a": "1", "c": "2"})
    with pytest.raises(InputError, match="no text in field 'a', .* Received: 3"):
        Template("{a}").fill({"a": 3})


def test_pairs():
    example = {"article": "It rained.", "summary": "Rain. "}
    assert PAIR.pieces(example) == [
        Piece("It rained.\nTL;DR:", learnt=False),
        Piece(" Rain. ", learnt=True),
    ]
    assert PAIR.questions(example) == [Question("It rained.\nTL;DR:", "Rain.", "It rained.")]
    assert PAIR.inputs == ("text",) and PAIR.fields == ("article", "summary")
    two = PairTemplate(Template("{q} {c}"), Template("{a}"))
    (question,) = two.questions({"q": "1", "c": "2", "a": "3"})
    assert question.request == {"q": "1", "c": "2"} and two.inputs == ("q", "c")
    for template in (PAIR, two):
        names = template.inputs
        given = {name: tf.constant([f"{name}!", "x"]) for name in names}
        filled = template.prompt_in_graph(given).numpy()
        values = dict(zip(template.prompt.fields, (f"{name}!" for name in names), strict=True))
        assert filled[0].decode() == template.prompt.fill(values)


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ("Say:", "{a}", "the prompt template 'Say:' names no field"),
        ("{a}", "done", "the completion template 'done' names no field"),
        ("{a} {b}", "{b}", "the field 'b' stands in the prompt .* and in the completion"),
        ("{a} {b c}", "{d}", "the field 'b c' .* would be the name of a bundle's input"),
        ("{a} {_b}", "{d}", "the field '_b' .* a letter first"),
        ("{a} {é}", "{d}", "the field 'é' .* letters of a to z"),
        ("{from} {subject}\n", "{d}", "the field 'from' .* Python has that word for itself"),
        ("{self} {x}", "{d}", "the field 'self' .* Python has"),
        ("{seed} {x}", "{d}", "the field 'seed' .* a bundle has a setting of that name"),
        ("{x} {stop}", "{d}", "the field 'stop' .* a bundle has a setting"),
        ("{Title} {title}", "{d}", "the field 'title' .* but for capitals"),
    ],
)
def test_pairs_that_can_not_be(prompt, completion, message):
    with pytest.raises(InputError, match=message):
        PairTemplate(Template(prompt), Template(completion))


def test_one_field_may_have_any_name():
    """It is not the name of an input: that is `text`."""
    for name in ("from", "seed", "b c", "é"):
        template = PairTemplate(Template(f"{{{name}}}"), Template("{d}"))
        assert template.inputs == ("text",)


def test_a_dialogue_is_cut_at_the_turns_that_are_learnt():
    assert CHAT.pieces(TALK) == [
        Piece("A:", learnt=False),
        Piece(" hi", learnt=True),
        Piece("\nB: ho\nA:", learnt=False),
        Piece(" ha", learnt=True),
    ]
    assert CHAT.questions(TALK) == [Question("A: hi\nB: ho\nA:", "ha", "hi\nho")]
    second = DialogueTemplate(CHAT.turn, "B")
    assert second.pieces(TALK) == [Piece("A: hi\nB:", learnt=False), Piece(" ho", learnt=True)]
    everybody = DialogueTemplate(Template("{text}\n"), "all")
    assert everybody.pieces(TALK)[:4] == [
        Piece("", learnt=False),
        Piece("hi", learnt=True),
        Piece("\n", learnt=False),
        Piece("ho", learnt=True),
    ]
    # Nobody asked, and nobody there.
    assert CHAT.questions({"turns": ["hi"], "speakers": ["A"]}) == []
    assert CHAT.pieces({"turns": [], "speakers": []}) == []
    with pytest.raises(InputError, match="as many speakers as turns.* Its fields: text"):
        CHAT.pieces({"text": "hi"})


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["hi", "a b", "né :", "{x}", " hi\u3000", "\x0bho\x0c", "two\nlines", " \t"]
        ),
        min_size=2,
        max_size=7,
    ),
    st.sampled_from(["{speaker}: {text}\n", "{text} |", "<{speaker}>{text}", "- {text}\n\n"]),
    st.sampled_from(["all", "first", "last", "A", "B"]),
    st.integers(0, 1),
)
def test_a_bundle_makes_the_prompts_of_training(turns, turn, speaker, other_begins):
    """Of every dialogue, whoever begins it; other requests may stand beside it."""
    template = DialogueTemplate(Template(turn), speaker)
    names = [("A", "B")[(i + other_begins) % 2] for i in range(len(turns))]
    for question in template.questions({"turns": turns, "speakers": names}):
        requests = tf.constant([f" \n{question.request}\n\n", "x\ny\nz", ""])
        assert template.prompt_in_graph({"text": requests})[0].numpy().decode() == question.prompt
        if other_begins and speaker in ("all", "first", "last"):
            continue  # the first line is A's, by the rule, and the training's prompt has B there
        if all(turn.strip(" ") == turn and turn.isprintable() for turn in turns):
            pieces = template.pieces({"turns": turns, "speakers": names})
            text = "".join(piece.text for piece in pieces)
            assert text.startswith(question.prompt)


def test_a_dialogue_that_the_second_speaker_begins_is_asked_as_a_bundle_is():
    talk = {"turns": ["yo", "hey", "ok", "bye"], "speakers": ["B", "A", "B", "A"]}
    (question,) = CHAT.questions(talk)
    assert question == Question("A: yo\nB: hey\nA: ok\nB:", "bye", "yo\nhey\nok")


def test_requests_by_hand():
    requests = tf.constant(["", "hi", "hi\nho"])

    def prompts(speaker: str) -> list[str]:
        template = DialogueTemplate(CHAT.turn, speaker)
        return [p.decode() for p in template.prompt_in_graph({"text": requests}).numpy()]

    assert prompts("last") == ["A:", "A: hi\nB:", "A: hi\nB: ho\nA:"]
    assert prompts("B") == ["B:", "A: hi\nB:", "B: hi\nA: ho\nB:"]
    assert prompts("first") == ["A:", "B: hi\nA:", "A: hi\nB: ho\nA:"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Template("{speaker}:"),), "must hold {text} once"),
        ((Template("{text}{text}\n"),), "must hold {text} once"),
        ((Template("{text} said {speaker}\n"),), "must hold {text} once"),
        ((Template("{mood} {text}\n"),), "must hold {text} once"),
        ((Template("{text} "),), "the turns would run together"),
        ((CHAT.turn, "C"), "must be one of all, first, last, A, B. Received: 'C'"),
        ((CHAT.turn, "all", ("A", "A")), "must be two names, none blank. Received: 'A', 'A'"),
    ],
)
def test_dialogues_that_can_not_be(arguments, message):
    with pytest.raises(InputError, match=message):
        DialogueTemplate(*arguments)


@pytest.mark.parametrize("template", [PAIR, DialogueTemplate(CHAT.turn, "user", ("user", "bot"))])
def test_templates_in_a_folder(template, tmp_path):
    assert load_template(tmp_path) is None
    save_template(tmp_path, template)
    assert load_template(tmp_path) == template == pickle.loads(pickle.dumps(template))
    assert [path.name for path in tmp_path.iterdir()] == ["template.json"]
    (tmp_path / "template.json").write_text('{"kind": "song"}')
    with pytest.raises(InputError, match="template.json can't be read as a template"):
        load_template(tmp_path)
    with pytest.raises(InputError, match="can't be written: No such file"):
        save_template(tmp_path / "none", template)
