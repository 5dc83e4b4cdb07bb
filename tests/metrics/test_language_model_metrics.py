import gzip
import math

import pytest

from tfllm import metrics


def test_bits_per_byte_by_hand():
    assert metrics.bits_per_byte(math.log(2), tokens=3, text_bytes=12) == pytest.approx(0.25)


def test_gzip_by_hand():
    text = ["to be or not to be", "that is the question"]
    size = len(gzip.compress("\n".join(text).encode(), 9))
    joined = sum(map(len, text)) + 1
    assert metrics.gzip_bits_per_byte(text) == pytest.approx(8 * size / joined)


def test_perplexity():
    assert metrics.perplexity(math.log(50)) == pytest.approx(50)
    assert math.isfinite(metrics.perplexity(1e4))


def test_language_model():
    numbers = metrics.language_model(math.log(4), tokens=10, text_bytes=40)
    assert numbers == pytest.approx({"loss": math.log(4), "perplexity": 4.0, "bits_per_byte": 0.5})
