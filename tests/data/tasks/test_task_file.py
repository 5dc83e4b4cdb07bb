"""The file that lists several tasks, and what can be wrong with it."""

import json
import tomllib

import pytest

from tfllm.data.tasks import AnswerSpec, TagSpec, TextSpec, read_task_file, showcase_tasks
from tfllm.data.tasks.toml_lines import toml_lines
from tfllm.errors import InputError

GOOD = """\
# Two tasks.
[[task]]
name = "similarity"   # of two texts
kind = "regression"
train = [
    "a.tsv",
    "part-*.tsv",
]
text = "one"
text_pair = 'two'
label = '''the
score'''
weight = 2

[[task]]
name = "names"
kind = "entities"
train = "names.txt"
test = "names.txt"
crf = true
tag_column = 1
overlap = 0
"""


@pytest.fixture
def listed(tmp_path):
    """Write a list of tasks beside some files, and read it."""
    (tmp_path / "a.tsv").write_text("text\tlabel\nfine\tgood\ndull\tbad\n")
    (tmp_path / "part-1.tsv").write_text("text\tlabel\nfine\tgood\n")
    (tmp_path / "names.txt").write_text("Ann B-PER\nsaw O\n")

    def read(text: str, *old_and_new: str):
        for old, new in zip(old_and_new[::2], old_and_new[1::2], strict=True):
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "tasks.toml").write_bytes(text.encode())
        return read_task_file(tmp_path / "tasks.toml")

    return read


@pytest.fixture
def refused(listed):
    """Read one that must be refused; gives the message from the file's name on."""

    def read(text: str, *old_and_new: str) -> str:
        with pytest.raises(InputError) as error:
            listed(text, *old_and_new)
        return str(error.value).rpartition("tasks.toml")[2]

    return read


def test_tasks_as_the_file_lists_them(listed, tmp_path):
    similarity, names = listed(GOOD)
    assert similarity == TextSpec(
        "similarity",
        "regression",
        train=(str(tmp_path / "a.tsv"), str(tmp_path / "part-*.tsv")),
        text="one",
        text_pair="two",
        label="the\nscore",
        weight=2,
        where=f"{tmp_path / 'tasks.toml'}:2",
    )
    file = str(tmp_path / "names.txt")
    assert names == TagSpec(
        "names",
        "entities",
        train=(file,),
        test=(file,),
        crf=True,
        tag_column=1,
        overlap=0,
        where=f"{tmp_path / 'tasks.toml'}:15",
    )


def test_lines_of_keys_whatever_stands_between():
    text = GOOD.replace("\n", "\r\n")
    lines = toml_lines(text)
    assert lines["task", 0] == 2 and lines["task", 1] == 15
    of_first = {path[2]: line for path, line in lines.items() if path[1:2] == (0,) and path[2:]}
    assert of_first == {
        "name": 3,
        "kind": 4,
        "train": 5,
        "text": 9,
        "text_pair": 10,
        "label": 11,
        "weight": 13,
    }
    inline = toml_lines('task = [{ a = 1 },\n  { "a" = 2 }]\n\nb.c = 3\n')
    assert inline[("task", 1, "a")] == 1 and inline[("b", "c")] == 4


def test_comments_cost_nothing():
    """Each line was read with all before it: 20,000 took minutes."""
    begins = 0

    def counted(text, read=tomllib.loads):
        nonlocal begins
        begins += 1
        return read(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tomllib, "loads", counted)
        lines = toml_lines("# one\n" * 20_000 + "  \na = 1 # two\n# three\nb = [\n\n# four\n2]\n")
    assert lines == {("a",): 20_002, ("b",): 20_004} and begins == 5


def test_wrong_keys_and_values_with_their_lines(refused):
    bad = [
        ("kind = ", "knd = ", ":2 a task lacks the key 'kind'. Each needs name, kind, train"),
        ('"names.txt"\n', '"names.txt"\nlabel = "y"\n', ":19 has the unknown key 'label'. A task"),
        ("crf = true", "cfr = true", ":20 has the unknown key 'cfr'. Did you mean 'crf'? A task"),
        ("crf = true", "crf = 1", ":20 crf must be true or false. Received: 1"),
        ('"regression"', '"regresion"', ":4 kind must be one of single_label, multi_label, reg"),
        ('"regression"', "3", ":4 kind must be one of single_label"),
        ('"similarity"', '"a b"', ":3 name must be a name of letters, digits, _ and -, which"),
        (
            '"similarity"',
            '"1st"',
            ":3 name must be a name of letters",
        ),
        ('"similarity"', f'"{"s" * 101}"', ":3 name must be a name of letters"),
        ('"a.tsv",', '"a.tsv", "",', ":5 train must be a path in quotes, or a list of them. Rec"),
        ('train = "names.txt"', 'train = ""', ":18 train must be a path in quotes, or a list of"),
        ('"similarity"', '"serving_default"', ":3 name must not be serving_default"),
        ('"a.tsv",', '"a.tsv", 7,', ":5 train must be a path in quotes, or a list of them. Rec"),
        ('"a.tsv",', '"b.tsv",', ":5 train '"),
        ("overlap = 0", "overlap = -1", ":22 overlap must be a whole number of 0 or more. Recei"),
        ("overlap = 0", "overlap = 1.5", ":22 overlap must be a whole number of 0"),
        ("overlap = 0", 'scheme = "iob3"', ":22 scheme must be one of iob1, iob2, bioes. Received"),
        ("weight = 2", "weight = nan", ":13 weight must be a number above 0 and below 1e9. Rec"),
        ("weight = 2", "weight = true", ":13 weight must be a number above 0"),
        ("weight = 2", f"weight = 1{'0' * 400}", ":13 weight must be a number above 0"),
        ("'two'", '""', ":10 text_pair must be text in quotes. Received: ''"),
        ('[[task]]\nname = "names"', "[other]\nname = 'x'", ":15 has the unknown key 'other'"),
    ]
    for old, new, message in bad:
        assert refused(GOOD, old, new).startswith(message), (old, new)
    assert "lacks the key 'train'" in refused(GOOD, 'train = "names.txt"\n', "")
    taken = refused(GOOD, '"names"', '"similarity"')
    assert taken == ":2. Give each task a name of its own"


def test_what_is_no_list_of_tasks(refused, tmp_path):
    assert refused(GOOD, "'two'", "'two").startswith(":10 is no TOML: ")
    assert refused(GOOD, "weight = 2", "label = 2").startswith(":13 is no TOML: Cannot overwrite")
    assert refused("[[task]]\ntrain = [\n").startswith(":3 is no TOML: ")
    assert refused("").startswith(" lists no tasks")
    assert refused("[task]\nname = 'a'\n").startswith(":1 task must be a list of tables")
    assert refused("task = [1]\n").startswith(":1 task must be a list of tables")
    deep = GOOD + "x = " + "[" * 5000
    assert refused(deep) == ":23 can't be read: it is nested too deep"
    many = refused(GOOD, "weight = 2", f"weight = {'9' * 5000}")
    assert many == ":13 can't be read: a number in it has too many digits"
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(InputError, match="latin.toml is no TOML: byte 0xe9 at offset 5"):
        read_task_file(tmp_path / "latin.toml")
    with pytest.raises(InputError, match="none.toml can't be read: No such file"):
        read_task_file(tmp_path / "none.toml")


def test_labels_that_differ_between_files_with_file_and_line(listed, tmp_path):
    (tmp_path / "dev.tsv").write_text("text\tlabel\nfine\tgood\nodd\tstrange\n")
    text = '[[task]]\nname = "t"\nkind = "single_label"\ntrain = "a.tsv"\nvalidation = "dev.tsv"\n'
    (spec,) = listed(text)
    with pytest.raises(InputError) as error:
        spec.labels(spec.read())
    assert str(error.value).startswith(
        f"{tmp_path}/tasks.toml:1 the task 't': validation {tmp_path}/dev.tsv:3 has the label "
        "'strange' in field 'label', which the training data has not (bad, good)"
    )
    (spec,) = listed(text, '"dev.tsv"', '"dev.tsv"\ntext = "words"')
    with pytest.raises(InputError, match="tasks.toml:1 the task 't': train .*'words'"):
        spec.read()


def test_examples_of_each_kind_become_rows_and_requests(listed, tmp_path):
    sentiment, entities, answers = showcase_tasks()
    assert isinstance(answers, AnswerSpec)
    parts = [spec.read() for spec in (sentiment, entities, answers)]
    assert sentiment.labels(parts[0]) == ("negative", "positive")
    assert entities.labels(parts[1])[:3] == ("O", "B-LOC", "I-LOC")
    assert answers.labels(parts[2]) == ()
    example = next(iter(parts[2].train))
    assert set(answers.instance(example)) == {"question", "context"}
    assert answers.truth(example) == example["answers"][0]
    assert next(answers.texts(parts[2].train)) == example["question"]
    words = next(iter(parts[1].train))
    assert entities.instance(words).split() == words["tokens"]
    assert entities.truth(words).split() == words["tags"]

    rows = [{"a": "x", "b": "y", "label": i} for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (spec,) = listed(
        '[[task]]\nname = "p"\nkind = "regression"\ntrain = "pairs.jsonl"\n'
        'validation = "pairs.jsonl"\ntext = "a"\ntext_pair = "b"\n'
    )
    parts = spec.read()
    example = next(iter(parts.train))
    assert spec.labels(parts) == () and spec.instance(example) == {"text": "x", "text_pair": "y"}
    assert [*spec.texts(parts.train)] == ["x", "y"] * 3 and spec.truth(example) == "0.0"
