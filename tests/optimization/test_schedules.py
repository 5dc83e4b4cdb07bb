import json
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given
from hypothesis import strategies as st

from tfllm.errors import InputError
from tfllm.optimization import WarmUpSchedule, learning_rate_schedule, warmup_cosine

SHAPES = ("constant", "linear", "cosine", "inverse_square_root")


# Peak 2, 4 steps up, 8 more steps, final share 1/4; all exact in binary.
@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ("constant", {4: 2.0, 8: 2.0, 12: 2.0, 99: 2.0}),
        ("linear", {4: 2.0, 6: 1.625, 8: 1.25, 12: 0.5, 99: 0.5}),
        ("cosine", {4: 2.0, 8: 1.25, 12: 0.5, 99: 0.5}),
        ("inverse_square_root", {4: 2.0, 9: 4 / 3, 12: 2 / math.sqrt(3), 99: 2 / math.sqrt(3)}),
    ],
)
def test_by_hand(shape, wanted):
    schedule = learning_rate_schedule(
        shape, 2.0, total_steps=12, warmup_steps=4, final_fraction=0.25
    )
    for step, rate in ({0: 0.0, 1: 0.5, 3: 1.5} | wanted).items():
        assert schedule(step).dtype == tf.float32
        assert float(schedule(step)) == np.float32(rate), step


def test_inverse_square_root_stops_falling():
    schedule = learning_rate_schedule(
        "inverse_square_root", 1.0, total_steps=1000, warmup_steps=1, final_fraction=0.25
    )
    assert [float(schedule(step)) for step in (4, 16, 17, 1000)] == [0.5, 0.25, 0.25, 0.25]


def test_without_warm_up():
    for shape in SHAPES:
        schedule = learning_rate_schedule(shape, 0.3, total_steps=9, warmup_steps=0)
        assert float(schedule(0)) == np.float32(0.3)
    assert float(schedule(4)) == np.float32(0.15)  # inverse square root, from step 1


@st.composite
def arguments(draw):
    total = draw(st.integers(2, 2**40))
    return {
        "peak": draw(st.floats(1e-8, 10.0)),
        "total_steps": total,
        "warmup_steps": draw(st.integers(0, total - 1)),
        "final_fraction": draw(st.just(0.0) | st.floats(1e-12, 1.0)),
    }


@given(arguments(), st.sampled_from(SHAPES), st.floats(0.0, 1.0))
def test_corners_are_exact_and_nothing_is_outside(numbers, shape, where):
    schedule = WarmUpSchedule(shape, **numbers)
    peak, total, warmup = numbers["peak"], numbers["total_steps"], numbers["warmup_steps"]
    end = peak * numbers["final_fraction"]
    assert float(schedule(warmup)) == np.float32(peak)
    if warmup:
        assert float(schedule(0)) == 0.0
    if shape in ("linear", "cosine"):
        assert float(schedule(total)) == float(schedule(total + 7)) == np.float32(end)
    step = int(warmup + where * (total - warmup))
    floor = peak if shape == "constant" else end
    # A last bit of the sum of two products.
    assert np.float32(floor) * (1 - 1e-6) <= float(schedule(step)) <= np.float32(peak)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_a_small_end_is_exact(shape):
    schedule = WarmUpSchedule(shape, 1.0, total_steps=10, warmup_steps=2, final_fraction=1e-12)
    assert float(schedule(10)) == np.float32(1e-12)


def test_steps_that_float32_cannot_count():
    schedule = learning_rate_schedule("linear", 1.0, total_steps=2**25, warmup_steps=2**24 + 1)
    assert float(schedule(2**24)) < float(schedule(2**24 + 1)) == 1.0


def test_the_cosine_is_keras_cosine():
    ours = warmup_cosine(1.0, total_steps=110, warmup_steps=10)
    theirs = keras.optimizers.schedules.CosineDecay(
        0.0, 100, alpha=0.1, warmup_target=1.0, warmup_steps=10
    )
    for step in range(0, 120, 3):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), abs=1e-6)


def test_the_warm_up_by_default_and_by_fraction():
    assert warmup_cosine(1.0, total_steps=2000).warmup_steps == 100
    assert warmup_cosine(1.0, total_steps=70).warmup_steps == 7
    for total, fraction, steps in (
        (100, 0.07, 7),
        (10, 0.06, 1),
        (10, 0.04, 0),
        (10, 0.0, 0),
        (7, 0.5, 4),
    ):
        schedule = learning_rate_schedule(
            "linear", 1.0, total_steps=total, warmup_fraction=fraction
        )
        assert schedule.warmup_steps == steps


@pytest.mark.parametrize("shape", SHAPES)
def test_saved_and_made_again(shape):
    schedule = learning_rate_schedule(
        shape, 0.3, total_steps=50, warmup_steps=5, final_fraction=0.2
    )
    config = json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    again = keras.optimizers.schedules.deserialize(config)
    assert type(again) is WarmUpSchedule
    assert again.get_config() == schedule.get_config()
    assert [float(again(t)) for t in (3, 5, 30)] == [float(schedule(t)) for t in (3, 5, 30)]


def test_in_a_graph_it_follows_the_optimizers_step():
    schedule = learning_rate_schedule("cosine", 1.0, total_steps=20, warmup_steps=4)
    step = tf.Variable(0, dtype=tf.int64)
    rate = tf.function(lambda: schedule(step))
    for t in (0, 3, 4, 11, 20):
        step.assign(t)
        assert float(rate()) == float(schedule(t))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"warmup_steps": 7}, r"warm-up of 7 steps.* which has 7\. Give fewer --warmup_steps"),
        ({"warmup_fraction": 0.95}, "warm-up of 7 steps"),
        ({"warmup_steps": 2, "warmup_fraction": 0.1}, "given twice: --warmup_steps 2"),
        ({"warmup_steps": -1}, "--warmup_steps must be at least 0. Received: -1"),
        ({"warmup_fraction": 1.0}, "--warmup_fraction must be at least 0 and below 1"),
        ({"peak": 0.0}, "must be above 0. Received: --learning_rate 0.0"),
        ({"peak": math.nan}, "--learning_rate nan"),
        ({"final_fraction": 1.5}, "final_fraction=1.5"),
        ({"name": "step"}, "no learning-rate schedule 'step'. Give one of constant, linear"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        learning_rate_schedule(
            **{"name": "linear", "peak": 1.0, "total_steps": 7, "warmup_steps": None} | arguments
        )
    assert "\n" not in str(error.value)
