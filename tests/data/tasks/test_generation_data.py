"""Prompts with completions, and dialogues, out of files of every format."""

import json

import pytest

from tfllm.data.showcase import Showcase
from tfllm.data.tasks import read_completions, read_dialogues
from tfllm.data.templates import PairTemplate, Template
from tfllm.errors import InputError

PAIR = PairTemplate(Template("{source}\n"), Template("{target}"))
NEWS = PairTemplate(Template("{title}: {text}"), Template(" {tldr}"))
ROWS = [{"title": "T", "text": f"it rained {i}", "tldr": f"wet {i}", "id": i} for i in range(5)]


@pytest.fixture
def write(tmp_path):
    def write_file(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write_file


def json_lines(rows: list) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_fields_by_name_of_every_table(write):
    keys = ["title", "text", "tldr"]
    table = [[row[key] for key in keys] for row in ROWS]
    files = [
        write("a.csv", "\n".join(map(",".join, [keys, *table]))),
        write("a.tsv", "\n".join(map("\t".join, [keys, *table]))),
        write("a.jsonl", json_lines(ROWS)),
    ]
    wanted = [{key: row[key] for key in keys} for row in ROWS]
    for file in files:
        parts = read_completions([file], [file], [file], template=NEWS)
        assert parts.name == "a"
        assert [*parts.train] == [*parts.validation] == [*parts.test] == wanted
    split = read_completions([files[0]], template=NEWS)
    assert sorted([e["text"] for e in (*split.train, *split.validation)]) == [
        row["text"] for row in wanted
    ]


def test_lines_of_two_files(write, tmp_path):
    english, german = write("a.en", "one\ntwo\nthree\n"), write("a.de", "eins\nzwei\ndrei\n")
    parts = read_completions([f"{english}:{german}"], [f"{english}:{german}"], template=PAIR)
    assert [*parts.train][1] == {"source": "two", "target": "zwei"}
    both = [f"{english}:{german}", f"{german}:{english}"]
    assert len([*read_completions(both, both[:1], template=PAIR).train]) == 6
    # A file whose name holds a colon is a file.
    odd = write("a:b.jsonl", json_lines([{"source": "x", "target": "y"}]))
    assert [*read_completions([odd], [odd], template=PAIR).train] == [
        {"source": "x", "target": "y"}
    ]
    short = write("short.de", "eins\n")
    with pytest.raises(InputError, match="has 3 lines and .*short.de has 1"):
        read_completions([f"{english}:{short}"], template=PAIR)
    with pytest.raises(InputError, match="--train .*is one file among pairs of files"):
        read_completions([f"{english}:{german}", english], template=PAIR)
    with pytest.raises(
        InputError, match=r"--train .*have the fields source and target\. .*{title}"
    ):
        read_completions([f"{english}:{german}"], template=NEWS)
    with pytest.raises(InputError, match=f"^--validation '{tmp_path}/none' does not exist"):
        read_completions([both[0]], [f"{english}:{tmp_path}/none"], template=PAIR)
    with pytest.raises(InputError, match=f"^--train '{english}:' lacks the file after the colon"):
        read_completions([f"{english}:"], template=PAIR)
    blank = write("blank.de", "eins\n \ndrei\n")
    with pytest.raises(InputError, match=r"^--train one row .*blank.de:2 is blank"):
        read_completions([f"{english}:{blank}"], template=PAIR)
    one = write("one.txt", "a\n")
    with pytest.raises(InputError, match="^--train .*there is only one example, which can't be sp"):
        read_completions([f"{one}:{one}"], template=PAIR)


def test_fields_that_are_not_there(write):
    table = write("a.tsv", "title\ttldr\na\tb\n")
    with pytest.raises(
        InputError, match="no column 'text', which --prompt_template names; its columns: 'title', "
    ):
        read_completions([table], template=NEWS)
    lines = write("a.jsonl", json_lines([{"title": "a", "tldr": "b"}]))
    with pytest.raises(InputError, match="a.jsonl:1 has no field 'text', which --prompt_te"):
        read_completions([lines], template=NEWS)
    twelve = write("b.jsonl", json_lines([{"a": 1}] * 12))
    with pytest.raises(InputError, match="which --turns names") as caught:
        read_dialogues([twelve])
    assert str(caught.value).count("'turns'") == 1
    with pytest.raises(InputError, match=r"that tfllm brings have the fields source and .*{title}"):
        read_completions(template=NEWS)


def test_a_completion_that_says_nothing(write):
    rows = [ROWS[0], {**ROWS[1], "tldr": " "}, {**ROWS[2], "title": ""}]
    file = write("a.jsonl", json_lines(rows))
    parts = read_completions([file], [file], template=NEWS, on_error="skip")
    assert [e["text"] for e in parts.train] == ["it rained 0", "it rained 2"]
    assert parts.train.skipped.count == 1
    with pytest.raises(InputError, match="a.jsonl:2 field 'tldr' is blank"):
        [*read_completions([file], [file], template=NEWS).train]


def test_dialogues_one_a_line(write):
    file = write("a.txt", "Hi . __eou__ Hello \t you . __eou__\n\nOne . __eou__ Two .\n")
    parts = read_dialogues([file], [file])
    assert [*parts.train] == [
        {"turns": ["Hi .", "Hello you ."], "speakers": ["A", "B"]},
        {"turns": ["One .", "Two ."], "speakers": ["A", "B"]},
    ]
    assert parts.train.place(1) == f"{file}:3"
    bars = write("b.txt", "Hi | Ho")
    (example,) = read_dialogues([bars], [bars], end_of_turn="|", speakers=("x", "y")).train
    assert example == {"turns": ["Hi", "Ho"], "speakers": ["x", "y"]}
    with pytest.raises(InputError, match="--end_of_turn must not be blank. Received: ''"):
        read_dialogues([bars], end_of_turn="")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a __eou__ __eou__ b __eou__", "a.txt:1 has a blank turn"),
        ("__eou__ b __eou__", "a.txt:1 has a blank turn"),
        ("a b", r"a.txt:1 has no '__eou__', which ends a turn \(--end_of_turn\)"),
        ("__eou__", "a.txt:1 has a blank turn"),
    ],
)
def test_lines_whose_speakers_would_change_places(write, line, message):
    file = write("a.txt", f"{line}\nc __eou__ d\n")
    with pytest.raises(InputError, match=f"^--train .*{message}"):
        read_dialogues([file])
    (kept,) = read_dialogues([file], [file], on_error="skip").train
    assert kept == {"turns": ["c", "d"], "speakers": ["A", "B"]}


@pytest.mark.parametrize(("name", "said"), [("role", "content"), ("speaker", "text")])
def test_dialogues_with_roles(write, name, said):
    chat = [{name: "user", said: "Hi\nthere"}, {name: "bot", said: "Ho"}]
    file = write("a.jsonl", json_lines([{"messages": chat}, {"messages": ["one", "two"]}]))
    options = {"turns": "messages", "speakers": ("user", "bot")}
    assert [*read_dialogues([file], [file], **options).train] == [
        {"turns": ["Hi there", "Ho"], "speakers": ["user", "bot"]},
        {"turns": ["one", "two"], "speakers": ["user", "bot"]},
    ]


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], r"a.jsonl:1 has the turns \[\], not a list"),
        ({"a": 1}, r"a.jsonl:1 has the turns {'a': 1}, not a list"),
        (["hi", 3], "a.jsonl:1 has the turn 3, not text"),
        (["hi", " \n"], "a.jsonl:1 has a blank turn"),
        ([{"text": "hi"}], "a.jsonl:1 has the turn {'text': 'hi'}, without a speaker"),
        ([{"role": "C", "content": "hi"}], r"the speaker 'C', not A and B \(--speakers\)"),
        ([{"role": "A", "content": "hi"}] * 2, "the speaker 'A' twice in a row, turns 1 and 2"),
    ],
)
def test_dialogues_that_can_not_be_read(write, turns, message):
    file = write("a.jsonl", json_lines([{"turns": turns}]))
    with pytest.raises(InputError, match=message):
        read_dialogues([file], [file])


def test_dialogues_are_the_users_own():
    with pytest.raises(InputError, match="there are no dialogues.*--train"):
        read_dialogues(())


def test_notes_are_rewritten():
    rows = [*Showcase("rewriting")]
    assert len({row["source"] for row in rows}) == len(rows) == 3000
    pairs = {row["source"]: row["target"] for row in rows}
    for source, target in pairs.items():
        assert "{" not in source + target and source != target
        words = target.split()
        clocks = [word for word in source.split() if ":" in word]
        for clock in clocks:
            hour, minute = map(int, clock.split(":"))
            at = next(i for i, word in enumerate(words) if ":" in word)
            assert words[at] == f"{hour % 12 or 12}:{minute:02}"
            assert words[at + 1] == ("am" if hour < 12 else "pm")
        assert not set("two three four five six seven eight nine".split()) & set(words)
    parts = read_completions(template=PAIR)
    assert parts.name == "rewriting" and len([*parts.validation]) > 100
    frames = ["meets us", "the train", "ordered", "will call", "is closed", "Please send"]
    held_out = [row["source"] for row in parts.validation]
    assert all(any(frame in source for source in held_out) for frame in frames)
