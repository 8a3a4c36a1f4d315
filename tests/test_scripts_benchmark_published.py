"""The published network's measurement: what it compares, and what it says where there is nothing to compare with."""

from __future__ import annotations

import pytest
import torch

from custom_components.errors import InputError
from custom_components.networks import FactorisedUNet
from lefusion_scripts import benchmark_published
from lefusion_scripts.benchmark import benchmark
from lefusion_scripts.benchmark_published import PlainNetwork, load_yardstick, measure_published
from lefusion_scripts.costs import count_flops

SMALL = {"width": 8, "multipliers": (1, 2), "num_heads": 2, "head_dim": 8}


def test_both_paths_are_timed_and_give_the_same_output():
    result = measure_published((8, 8, 4), 1, None, **SMALL)
    assert result["seconds_per_forward"] > 0
    ratio = result["plain_seconds_per_forward"] / result["seconds_per_forward"]
    assert result["plain_to_network"] == pytest.approx(ratio)
    assert 0 < result["max_abs_difference"] < 1e-4
    assert result["size"] == [8, 8, 4]


def test_without_the_yardstick_only_the_network_is_measured_and_that_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_published, "YARDSTICK", tmp_path / "plain.py")
    result = measure_published((8, 8, 4), 1, None, **SMALL)
    assert result["seconds_per_forward"] > 0
    assert not [key for key in result if "plain" in key or "difference" in key]
    assert "no plain transcription to compare with" in capsys.readouterr().out


def test_plain_transcription_takes_505_gflop_at_the_published_size():
    with torch.device("meta"):
        network = FactorisedUNet()
        inputs, context = (torch.zeros(1, 1, 64, 64, 32), torch.zeros(1, dtype=torch.long)), torch.zeros(1, 1, 16)
    plain = count_flops(PlainNetwork(network, load_yardstick()), *inputs, context=context) / 1e9
    assert plain == pytest.approx(505, abs=0.5)
    assert count_flops(network, *inputs, context=context) / 1e9 < plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "paper"}, "network must be bundle or published, got 'paper'"),
        ({"network": "published", "eta": 0.5}, "'eta'"),
    ],
)
def test_what_it_cannot_measure_is_told_before_any_work(arguments, message):
    with pytest.raises(InputError, match=message):
        benchmark(**arguments)


def test_size_that_the_network_cannot_halve_is_told():
    with pytest.raises(InputError, match="spatial_size must be multiples of 2"):
        measure_published((9, 8, 4), 1, None, **SMALL)
