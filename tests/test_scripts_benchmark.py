"""The benchmark's numbers against counts made another way, with a tiny network in the bundle's settings."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from tqdm import tqdm

from custom_components.errors import InputError
from custom_components.networks import HistogramUNet
from lefusion_scripts.benchmark import benchmark, measure

SIZE = (16, 16, 16)
TINY = {
    "in_channels": 2,
    "channels": [8, 16],
    "attention_levels": [False, True],
    "num_res_blocks": 1,
    "norm_num_groups": 8,
    "num_head_channels": 16,
    "patch_size": 2,
    "context_dim": 24,
}
OVERRIDES = {f"network_def#{key}": value for key, value in TINY.items()} | {
    "device": "cpu",
    "context": "clean",
}
SETTINGS = {"num_inference_steps": 3, "jump_length": 1, "jump_n_sample": 2, "guidance_scale": 2.0} | OVERRIDES


@pytest.fixture(scope="module")
def numbers() -> dict:
    """Measured with a progress bar that shows at once, as it does in a run of real size."""

    def shown(**settings: Any) -> tqdm:
        return tqdm(**settings | {"delay": 0, "mininterval": 0})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lefusion_scripts.benchmark.tqdm", shown)
        return measure("lefusion_lidc", SETTINGS, SIZE, repeats=2, threads=None)


def test_forwards_are_counted_along_the_walk_and_doubled_by_guidance(numbers):
    # 3 steps, each stretch of 1 sampled twice: 2 1 2 1 0 1 0 -1 goes down five times
    assert numbers["forwards_per_lesion"] == 10


def test_lesion_time_is_compared_with_that_of_its_forwards(numbers):
    forward, lesion = numbers["seconds_per_forward"], numbers["seconds_per_lesion"]
    assert 0 < forward < lesion
    ratio = lesion / (10 * forward)
    assert numbers["lesion_to_forwards"] == pytest.approx(ratio)


def test_parameters_and_weights_are_those_of_the_network(numbers):
    network = HistogramUNet(**TINY)
    assert numbers["parameters_millions"] == pytest.approx(sum(p.numel() for p in network.parameters()) / 1e6)
    assert numbers["weights_mb"] == pytest.approx(4 * numbers["parameters_millions"]), "float32"


def test_flops_equal_a_count_by_layers(numbers):
    network = HistogramUNet(**TINY).eval()
    total = 0

    def add(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            module.register_forward_hook(add)
    with torch.no_grad():
        network(torch.rand(1, 2, *SIZE), torch.tensor([7]), context=torch.rand(1, 1, 16))
    # Attention without its projections: scores and weighted sum, among 4^3 positions and with 16 bins, 16
    # channels wide, in one block on the way down, one in the middle and two on the way up.
    total += 4 * (2 * 2 * 64 * 64 * 16 + 2 * 2 * 64 * 16 * 16)
    assert numbers["gflop_per_forward"] == pytest.approx(total / 1e9, rel=1e-6)


@pytest.mark.integration
def test_a_process_of_its_own_is_measured_printed_and_saved(tmp_path, capsys):
    path = tmp_path / "result.json"
    ballast = np.ones(10**8)  # 800 MB here, that must not count there
    result = benchmark(size=SIZE, repeats=1, threads=1, json_output=str(path), **SETTINGS)
    own_mb = psutil.Process().memory_info().rss / 1e6
    del ballast
    assert 100 < result["peak_memory_mb"] < own_mb
    assert result["forwards_per_lesion"] == 10
    assert (result["size"], result["threads"], result["torch"]) == (list(SIZE), 1, torch.__version__)
    assert json.loads(path.read_text()) == result
    assert list(tmp_path.iterdir()) == [path]
    printed = capsys.readouterr().out
    assert "gflop_per_forward" in printed and "peak_memory_mb" in printed


def test_existing_json_file_is_refused_without_overwrite(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(InputError, match="exists"):
        benchmark(json_output=str(path))
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nonsense": 1}, "no key 'nonsense'"),
        ({"network_def#chanels": [8, 16]}, "network_def#chanels"),
        ({"size": (64, 64)}, "size must be three"),
        ({"size": (64, 64, 0)}, "size must be a whole number"),
        ({"repeats": 0}, "repeats"),
        ({"threads": 1.5}, "threads"),
        ({"bundle": "no_such_bundle"}, "no_such_bundle"),
    ],
)
def test_bad_arguments_are_told_before_any_work(arguments, message):
    with pytest.raises(InputError, match=message):
        benchmark(**arguments)


@pytest.mark.parametrize(
    ("size", "overrides", "message"),
    [((15, 16, 16), {}, "crop of .15, 16, 16."), (SIZE, {"num_inference_steps": 400}, "num_inference_steps")],
)
def test_settings_that_do_not_fit_together_are_told(size, overrides, message):
    with pytest.raises(InputError, match=message):
        measure("lefusion_lidc", OVERRIDES | overrides, size, repeats=1, threads=None)
