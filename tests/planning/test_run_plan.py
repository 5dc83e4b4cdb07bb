"""Operations, memory and time: what must hold of them whatever the sizes."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfllm.errors import InputError
from tfllm.planning import (
    DeviceSpeed,
    ModelSizes,
    TrainingPlan,
    Workload,
    count_operations,
    estimate_memory,
    estimate_step,
    largest_batch,
    plan_run,
    rank_models,
    suggest_accumulation,
)

MIB, GIB = 1 << 20, 1 << 30
SPEED = DeviceSpeed(80e9, 8e9)


def gpt2(layers=2, width=8, heads=2, words=10, positions=4096, **config):
    config |= {"vocab_size": words, "n_embd": width, "n_layer": layers, "n_head": heads}
    return ModelSizes.from_config({"model_type": "gpt2", "n_positions": positions} | config, "x")


def bert(layers=2, width=8, heads=2, words=10, **config):
    config |= {"vocab_size": words, "hidden_size": width, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "intermediate_size": 4 * width}
    return ModelSizes.from_config({"model_type": "bert"} | config, "x")


def test_operations_by_hand():
    plan = TrainingPlan(gpt2(layers=1), "causal_lm", rows=3, tokens=5)
    found = count_operations(plan)
    # 8·24 + 8·8 + 8·32 + 32·8 numbers, for 15 positions, two operations, three times.
    assert found.projections == 2 * 3 * 15 * (192 + 64 + 256 + 256)
    # Scores and mixing: 15 queries, 5 keys, 8 wide, twice; two operations, three times.
    assert found.attention == 2 * 3 * 15 * 5 * 8 * 2
    assert found.logits == 2 * 3 * 15 * 8 * 10


def test_operations_are_those_that_a_trained_model_is_told_to_need():
    from tfllm.models import CausalLM
    from tfllm.training.flops import flops_per_token

    config = {"vocab_size": 50, "n_embd": 12, "n_layer": 3, "n_head": 3, "n_positions": 16}
    model = CausalLM.from_config(config)
    sizes = ModelSizes.from_config({"model_type": "gpt2"} | config, "x")
    plan = TrainingPlan(sizes, "causal_lm", rows=2, tokens=16)
    assert count_operations(plan).total == 32 * flops_per_token(model, 16)


def test_logits_are_where_a_loss_is():
    logits = {
        task: count_operations(TrainingPlan(bert(words=100), task, rows=4, tokens=50)).logits
        for task in ("masked_lm", "text_classifier", "token_classifier", "question_answerer")
    }
    assert logits.pop("masked_lm") == 6 * 30 * 8 * 100  # 15% of 200 positions
    assert set(logits.values()) == {0}


def test_what_is_frozen_costs_less():
    whole = TrainingPlan(bert(layers=4), "text_classifier", rows=4, tokens=20)
    frozen = dataclasses.replace(whole, freeze_layers=3)
    lora = dataclasses.replace(whole, lora_rank=1)
    need = {p: count_operations(p).total for p in (whole, frozen, lora)}
    assert need[frozen] < need[lora] < need[whole]
    assert estimate_memory(frozen).total < estimate_memory(whole).total
    assert frozen.trainable < whole.trainable == whole.parameters.total


@pytest.mark.parametrize("adaptation", [{"lora": 3}, {"freeze": 1}, {"freeze": 0}])
@pytest.mark.parametrize("family", ["bert", "gpt2", "distilbert", "xlnet"])
def test_as_much_trains_as_in_a_real_model(family, adaptation):
    import transformers

    from tfllm.models import TextClassifier, adapt, trainable_share

    config = transformers.AutoConfig.for_model(
        family, vocab_size=23, hidden_size=8, num_attention_heads=2
    )
    config.num_hidden_layers = 2
    config.d_head = 4  # XLNet's does not follow
    sizes = ModelSizes.from_config(config.to_dict(), family)
    model = TextClassifier.from_config(config, labels=["a", "b", "c"])
    rank, freeze = adaptation.get("lora"), adaptation.get("freeze")
    lora = rank and {"rank": rank, "alpha": 1.0, "dropout": 0.0, "targets": None}
    adapt(model, heads=("head",), freeze_layers=freeze, lora=lora)
    plan = TrainingPlan(
        sizes, "text_classifier", 1, 4, labels=3, lora_rank=rank, freeze_layers=freeze
    )
    share = trainable_share(model)
    assert plan.parameters.total + plan.adapters == share.total
    assert plan.trainable == share.trainable


@given(
    rows=st.integers(1, 64),
    tokens=st.integers(1, 600),
    layers=st.integers(1, 6),
    words=st.integers(1, 60_000),
    task=st.sampled_from(["causal_lm", "text_classifier"]),
)
def test_more_of_anything_never_takes_less(rows, tokens, layers, words, task):
    plan = TrainingPlan(gpt2(layers=layers, words=words), task, rows, tokens)
    least = estimate_memory(plan).total, estimate_step(plan, SPEED).total
    for more in (
        dataclasses.replace(plan, rows=rows + 1),
        dataclasses.replace(plan, tokens=tokens + 1),
        dataclasses.replace(plan, sizes=gpt2(layers=layers + 1, words=words)),
        dataclasses.replace(plan, sizes=gpt2(layers=layers, words=words + 1)),
    ):
        # More words make chunks of logits of other, rounded sizes.
        if more.sizes.vocabulary_size == words:
            assert estimate_memory(more).total >= least[0]
        assert estimate_step(more, SPEED).total >= least[1]


def test_memory_parts_are_all_of_it():
    memory = estimate_memory(TrainingPlan(gpt2(), "causal_lm", rows=8, tokens=64))
    parts = memory.tensorflow + memory.weights + memory.optimizer + memory.gradients
    assert memory.total == parts + memory.activations + memory.logits + memory.allocator
    assert memory.weights == 4 * (10 * 8 + 4096 * 8 + 2 * (12 * 64 + 13 * 8) + 16)
    assert memory.optimizer == 2 * memory.weights


def test_logits_are_never_alive_all_at_once():
    sizes = gpt2(words=50_000)
    most = [estimate_memory(TrainingPlan(sizes, "causal_lm", n, 64)).logits for n in (16, 64)]
    assert most[0] == most[1] == 2 * 4 * (2**24 // 50_000) * 50_000


@given(st.integers(800 * MIB, 4 * GIB), st.integers(1, 512))
def test_the_largest_batch_fits_and_one_row_more_does_not(memory, tokens):
    plan = TrainingPlan(gpt2(width=64, words=1000), "causal_lm", 1, tokens)
    rows = largest_batch(plan, memory)
    assert rows >= 1
    need = [estimate_memory(dataclasses.replace(plan, rows=n)).total for n in (rows, rows + 1)]
    assert need[0] <= memory < need[1]


def test_micro_batches_are_suggested_where_a_batch_does_not_fit():
    plan = TrainingPlan(gpt2(width=64, words=1000), "causal_lm", 1, 512)
    whole = estimate_memory(dataclasses.replace(plan, rows=64)).total
    assert suggest_accumulation(plan, 64, whole) == 1
    parts = suggest_accumulation(plan, 64, whole - MIB)
    assert parts == 2
    assert suggest_accumulation(plan, 64, 500 * MIB) is None
    # 7 rows can only be cut into ones.
    seven = estimate_memory(dataclasses.replace(plan, rows=7)).total
    assert suggest_accumulation(plan, 7, seven - 1) == 7


def test_accumulation_takes_as_long_and_less_memory():
    whole = TrainingPlan(gpt2(width=64), "text_classifier", 64, 256)
    parts = dataclasses.replace(whole, rows=16, accumulate_steps=4)
    assert estimate_memory(parts).total < estimate_memory(whole).total
    work = Workload(640, 256.0, 2, None, 64, 1)
    plans = [plan_run(p, work, SPEED, GIB) for p in (whole, parts)]
    assert plans[0].step_operations == plans[1].step_operations
    assert plans[1].step_seconds == pytest.approx(plans[0].step_seconds, rel=0.1)
    assert [p.total_steps for p in plans] == [20, 20]


def test_devices_share_the_rows():
    plan = TrainingPlan(gpt2(width=64), "causal_lm", 1, 128)
    one, four = (plan_run(plan, Workload(6400, 128.0, 1, 50, 64, n), SPEED, GIB) for n in (1, 4))
    assert (one.plan.rows, four.plan.rows) == (64, 16)
    assert (one.total_steps, one.steps_per_epoch) == (50, 100)
    assert one.step_operations == four.step_operations
    assert four.memory.total < one.memory.total
    assert one.step_seconds / 4.5 < four.step_seconds < one.step_seconds


def planned(sizes, memory, rows=32):
    plan = TrainingPlan(sizes, "causal_lm", 1, 128)
    return plan_run(plan, Workload(3200, 128.0, 1, None, rows, 1), SPEED, memory)


def test_the_largest_model_that_fits_comes_first():
    memory = 2 * GIB
    plans = {
        "small": planned(gpt2(width=16), memory),
        "huge": planned(gpt2(width=4096, layers=24), memory),
        "middle": planned(gpt2(width=64), memory),
    }
    ranked = rank_models(plans, memory=memory, seconds=None)
    assert [(name, fits) for name, _, fits in ranked] == [
        ("middle", True),
        ("small", True),
        ("huge", False),
    ]
    between = (plans["small"].total_seconds + plans["middle"].total_seconds) / 2
    ranked = rank_models(plans, memory=memory, seconds=between)
    assert [name for name, _, fits in ranked if fits] == ["small"]


def test_a_budget_that_nothing_fits_in_is_one_line():
    memory = 600 * MIB
    plans = {"a": planned(gpt2(width=16), memory), "b": planned(gpt2(width=64), memory)}
    with pytest.raises(InputError, match="nothing fits in --memory_gib 0.586: .* 2 models, a,"):
        rank_models(plans, memory=memory, seconds=None)
    plans = {"a": planned(gpt2(width=16), GIB), "b": planned(gpt2(width=64), GIB)}
    with pytest.raises(InputError, match="--hours 2.78e-07 .* quickest of 2 models, a,"):
        rank_models(plans, memory=GIB, seconds=0.001)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 4097}, "--sequence_length 4097 is above the 4096 positions of m"),
        ({"freeze_layers": 3}, "--freeze_layers must be 0 to 2"),
        ({"freeze_layers": 1, "lora_rank": 1}, "not both"),
        ({"task": "masked_lm"}, "masked_lm"),
    ],
)
def test_what_can_not_be_trained_is_refused(change, said):
    plan = TrainingPlan(gpt2(), "causal_lm", 1, 4)
    plan.check("m")
    with pytest.raises(InputError, match=said):
        dataclasses.replace(plan, **change).check("m")


def test_roberta_has_fewer_positions_than_rows():
    sizes = ModelSizes.from_config({"model_type": "roberta", "max_position_embeddings": 514}, "r")
    assert sizes.max_tokens == 512
    with pytest.raises(InputError, match="513 is above the 512"):
        TrainingPlan(sizes, "text_classifier", 1, 513).check("r")
