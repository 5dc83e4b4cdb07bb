import pytest

from tfllm.planning import DeviceSpeed, SpeedMeter


def test_a_product_and_a_pass_are_measured():
    speed = SpeedMeter(positions=64, width=32, inner=128).measure(rounds=2)
    assert 1e7 < speed.flops < 1e16
    assert 1e7 < speed.bytes_per_second < 1e14


def test_a_peak_by_hand_is_taken_as_it_is():
    speed = DeviceSpeed.from_peak(70e9)
    assert speed.flops == 70e9
    assert speed.bytes_per_second == pytest.approx(10e9)
