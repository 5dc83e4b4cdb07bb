import dataclasses

import pytest

from tfllm.errors import InputError
from tfllm.generation import Beam, Sampling, checks
from tfllm.models import GenerationDefaults, generation_defaults

SETTINGS = [
    GenerationDefaults(),
    GenerationDefaults(7, num_beams=4),
    GenerationDefaults(9, temperature=0.7, top_k=5, top_p=0.9),
]


@pytest.mark.parametrize("defaults", SETTINGS)
def test_they_lie_in_a_folder(defaults, tmp_path):
    assert GenerationDefaults.load(tmp_path) == GenerationDefaults()
    path = defaults.save(tmp_path)
    assert GenerationDefaults.load(tmp_path) == defaults
    assert list(tmp_path.iterdir()) == [path]
    for text in ('{"num_beams": 0}', '{"heat": 1}', "[1]", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match="generation_defaults.json can't be read"):
            GenerationDefaults.load(tmp_path)
    with pytest.raises(InputError, match="can't be written: No such file"):
        defaults.save(tmp_path / "none")


def test_they_are_what_signatures_take():
    plain, search, chance = (defaults.arguments() for defaults in SETTINGS)
    assert plain == {"max_new_tokens": None, "sampling": None, "beam": None}
    assert search == {"max_new_tokens": 7, "sampling": None, "beam": Beam(4)}
    assert chance == {"max_new_tokens": 9, "sampling": Sampling(0.7, 5, 0.9), "beam": None}


def test_what_is_given_takes_the_place_of_what_is_here():
    _, search, chance = SETTINGS
    assert search.changed(max_new_tokens=None, temperature=None) == search
    assert search.changed(max_new_tokens=3) == GenerationDefaults(3, num_beams=4)
    assert search.changed(temperature=0.5) == GenerationDefaults(7, temperature=0.5)
    assert search.changed(temperature=0) == GenerationDefaults(7)
    assert chance.changed(num_beams=2) == GenerationDefaults(9, num_beams=2)
    assert chance.changed(temperature=0) == GenerationDefaults(9)
    assert chance.changed(top_p=0.5) == dataclasses.replace(chance, top_p=0.5)


def test_a_beam_has_one_limit_everywhere():
    assert generation_defaults.MOST_BEAMS == checks.MOST_BEAMS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1. Received: 0"),
        ({"num_beams": 257}, "num_beams must be at most 256. Received: 257"),
        ({"max_new_tokens": 2**31}, "max_new_tokens must be below 2³¹"),
        ({"temperature": 1e300}, "temperature must be a number of 32 bits. Received: 1e.300"),
        ({"temperature": 1, "top_k": 2**31}, "top_k must be below 2³¹"),
        ({"num_beams": True}, "num_beams must be at least 1. Received: True"),
        ({"temperature": float("nan")}, "temperature must be at least 0. Received: nan"),
        ({"temperature": 1, "top_p": 0}, "top_p must be above 0 and at most 1. Received: 0"),
        ({"top_k": 7}, "top_k 7 means nothing at temperature 0"),
        ({"top_p": 0.5}, "top_p 0.5 means nothing at temperature 0"),
        ({"num_beams": 2, "temperature": 1.0}, "num_beams 2 and temperature 1.0 exclude"),
    ],
)
def test_what_can_not_be_meant_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        GenerationDefaults().changed(**given)
