"""The recipe as its user runs it, on small files."""

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from transformers import GPT2Config

from tfllm import text
from tfllm.data.templates import DialogueTemplate, PairTemplate, Template, load_template
from tfllm.errors import InputError
from tfllm.models import CausalLM, GenerationDefaults
from tfllm.serving import Session

NAME = "finetune_generator"
RECIPES = Path(__file__).parent.parent.parent / "recipes"
TINY = [
    *("--num_layers", 1, "--num_heads", 2, "--hidden_dim", 16, "--vocabulary_size", 300),
    *("--global_batch_size", 8, "--sequence_length", 48),
]
WORDS = "the cat sat on a mat and the dog saw a house by the sea".split()


def read_lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sentences(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 4)) for _ in range(count)]


def test_texts_in_texts_out(recipe, tmp_path):
    for name, seed, count in (("train", 1, 120), ("held", 2, 12)):
        rows = zip(sentences(seed, count), sentences(seed + 9, count), strict=True)
        write_lines(
            tmp_path / f"{name}.jsonl",
            [
                {"title": a.upper(), "body": f"{b} no {i}", "tldr": b}
                for i, (a, b) in enumerate(rows)
            ],
        )
    files = ["--train", "train.jsonl", "--validation", "held.jsonl", "--test", "held.jsonl"]
    templates = [
        "--prompt_template",
        r"{title}: {body}\nTL;DR:",
        "--completion_template",
        " {tldr}",
    ]
    options = ["--metrics", "rouge", "exact_match", "perplexity", "--generated", 5]
    done = recipe(NAME, *files, *templates, *TINY, *options, "--max_steps", 4)
    metrics = done.record["metrics"]
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    assert metrics["test_loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert {"rouge1", "rougeL", "exact_match", "test_rougeLsum"} <= set(metrics)
    assert metrics["train_examples"] == 120 and metrics["train_prompts_cut"] == 0
    assert done.out.count("Truth:") == 3
    assert f"python recipes/generate.py runs/{NAME}\n" in done.out
    *_, tested, place, _ = done.out.splitlines()
    assert tested.startswith("Test: ") and "rougeLsum" in tested
    assert place == f"The run is in runs/{NAME}."
    assert done.record["versions"]["rouge"].startswith("nrefs:1|")

    # The model's folder, the bundle and the file of predictions say the same.
    run_dir = tmp_path / "runs" / NAME
    template = load_template(run_dir / "model")
    pair = (Template("{title}: {body}\nTL;DR:"), Template(" {tldr}"))
    assert template == PairTemplate(*pair)
    lines = read_lines(run_dir / "test_predictions.jsonl")
    assert len(lines) == 12 and len(read_lines(run_dir / "validation_predictions.jsonl")) == 5
    examples = read_lines(tmp_path / "held.jsonl")
    assert [line["prompt"] for line in lines] == [pair[0].fill(example) for example in examples]
    assert [line["reference"] for line in lines] == [example["tldr"] for example in examples]
    tokenizer = text.load(run_dir / "model")
    model = CausalLM.from_pretrained(run_dir / "model")
    defaults = GenerationDefaults.load(run_dir / "model")
    assert defaults == GenerationDefaults(5)  # four words and the end
    new = model.generate(
        tokenizer.tokenize(tf.constant([line["prompt"] for line in lines])),
        max_new_tokens=defaults.max_new_tokens,
        eos_id=tokenizer.eos_id,
    )
    texts = [t.decode().strip() for t in tokenizer.detokenize(new).numpy()]
    request = {name: [example[name] for example in examples] for name in ("body", "title")}
    with Session(tmp_path / done.record["export"]) as session:
        served = [t.decode() for t in session.run("serving_default", request)["text"]]
        assert "max_new_tokens" in session.signatures["generate"].inputs
    assert served == texts == [line["predicted"] for line in lines]


@pytest.mark.slow
def test_dialogues_with_adapters(recipe, tmp_path):
    turns = [" __eou__ ".join(sentences(seed, 5)) for seed in range(40)]
    (tmp_path / "talk.txt").write_text("\n".join(turns))
    tokenizer = text.train_byte_level_bpe(turns, 300)
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size, n_positions=64, n_embd=16, n_layer=1, n_head=2
    )
    CausalLM.from_config(config).save_pretrained(tmp_path / "nano", tokenizer)
    flags = ["--train", "talk.txt", "--pretrained", "nano", "--sequence_length", 64]
    how = ["--turn_template", r"{speaker}: {text}\n", "--speaker", "B", "--lora_rank", 2]
    done = recipe(NAME, *flags, *how, "--max_steps", 2, "--metrics", "distinct")
    assert "LoRA: " in done.out and "distinct_1" in done.record["metrics"]
    run_dir = tmp_path / "runs" / NAME
    wanted = DialogueTemplate(Template("{speaker}: {text}\n"), "B")
    assert load_template(run_dir / "model") == wanted and (run_dir / "adapters").is_dir()
    lines = read_lines(run_dir / "validation_predictions.jsonl")
    assert all(line["prompt"].endswith("\nB:") for line in lines)


@pytest.mark.slow
def test_rows_are_packed_so_that_xla_compiles_once(recipe, tmp_path):
    pairs = zip(sentences(1, 90), sentences(2, 90), strict=True)
    write_lines(tmp_path / "a.jsonl", [{"source": a, "target": b} for a, b in pairs])
    flags = ["--train", "a.jsonl", *TINY, "--max_steps", 3, "--dropout", 0]
    plain, fast = (
        recipe(NAME, *flags, "--run_dir", name, *more).record["metrics"]
        for name, more in (("plain", []), ("fast", ["--xla"]))
    )
    assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-4)


@pytest.mark.slow
def test_a_dry_run_with_what_tfllm_brings(recipe, tmp_path):
    done = recipe(NAME, *TINY, "--dry_run")
    assert done.record["metrics"]["train_examples"] > 2500
    assert "First row: " in done.out and "bundle answers as the model does" in done.out
    assert not (tmp_path / "runs").exists() and not (tmp_path / "savedmodels").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt_template", "{a.b}"], "--prompt_template: the template '{a.b}' has the field"),
        (["--turn_template", "{text}"], "the turns would run together"),
        (
            ["--turn_template", r"{text}\n", "--prompt_template", "{a}"],
            "--turn_template is for dia",
        ),
        (["--turn_template", r"{text}\n"], "tfllm brings none. Give some with --train"),
        (["--train", "a.jsonl"], "--train .*a.jsonl:1 has no field 'source', which --prompt_temp"),
        (["--num_beams", 1000000], "--num_beams must be at least 1 and at most 256. Received: 10"),
        (["--export_name", ""], "--export_name must not be empty"),
        (["--end_of_turn", " "], "--end_of_turn must not be blank"),
        (["--train", "no.en:no.de"], "--train .*'no.en' does not exist"),
        (["--metrics", "meteor"], "--metrics must be of rouge, .*Received: meteor"),
        (["--best_metric", "bleu"], "--best_metric must be one of loss, exact_match, .*: bleu"),
        (["--max_new_tokens", 128], "--max_new_tokens must be at least 1 and below the 128 pos"),
        (["--vocabulary_size", 200], "--vocabulary_size is below 257"),
        (["--sequence_length", 1], "--sequence_length must be at least 2. Received: 1"),
        (["--prompt_template", "{seed} {x}"], "'seed' .* a bundle has a setting of that name"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(recipe, tmp_path, flags, message):
    write_lines(tmp_path / "a.jsonl", [{"x": "1"}])
    done = recipe(NAME, *flags)
    assert done.code == 2 and "Traceback" not in done.err
    (line,) = [line for line in done.err.splitlines() if line.strip()]
    assert re.search(message, line), line
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl"}


@pytest.mark.parametrize(
    ("line", "speaker", "message"),
    [
        (
            "hi __eou__",
            "last",
            "--train a.txt: no dialogue has a second turn; is '__eou__' what ends",
        ),
        (
            "hi __eou__ ho __eou__",
            "first",
            r"--train a.txt: no dialogue has a turn of who is learnt .*\(--speaker\)",
        ),
        ("hi __eou__ ho __eou__ hu __eou__", "first", None),
    ],
)
def test_dialogues_must_ask_for_something(monkeypatch, tmp_path, line, speaker, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("".join(f"{i} {line}\n" for i in range(30)))
    finetune = runpy.run_path(str(RECIPES / f"{NAME}.py"))
    config = finetune["Config"](
        train=("a.txt",), turn_template=r"{speaker}: {text}\n", speaker=speaker
    )
    template = config.template()
    parts = finetune["read"](config, template)
    if message is None:
        finetune["check_questions"](config, template, parts)
        return
    with pytest.raises(InputError, match=message):
        finetune["check_questions"](config, template, parts)
