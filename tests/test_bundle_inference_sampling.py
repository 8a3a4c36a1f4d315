"""Settings of the sampling decide what the network is asked and how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundle_runs import (
    same_excepthook,  # noqa: F401 (a fixture)
)
from lung_runs import (
    BUNDLE,
    case_fixture,  # noqa: F401 (a fixture)
    forwards_fixture,  # noqa: F401 (a fixture)
    paint_fixture,  # noqa: F401 (a fixture)
    save_tiny_weights,
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, balls, chest


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2),
        ({"num_inference_steps": 4}, 4),
        ({"jump_n_sample": 2}, 3),  # 1 0 1 0 -1
        ({"num_inference_steps": 4, "jump_length": 2, "jump_n_sample": 3}, 8),  # 3 2 1 0 [1 2 1 0] [1 2 1 0] -1
        ({"guidance_scale": 2.0}, 4),
        ({"jump_n_sample": 2, "guidance_scale": 2.0}, 6),
    ],
)
def test_steps_jumps_and_guidance_decide_the_number_of_forwards(paint, case, tmp_path, forwards, settings, count):
    output = paint(tmp_path, **case, texture="solid", **settings)
    assert len(forwards) == 2 * count, "two lesions, one at a time"
    assert {key: output.sidecar["settings"][key] for key in settings} == settings


def test_guidance_changes_a_conditioned_lesion_and_not_an_unconditioned_one(paint, case, tmp_path):
    plain, guided = (
        paint(tmp_path / str(scale), **case, texture=["solid", "none"], guidance_scale=scale) for scale in (1.0, 3.0)
    )
    conditioned, free = (balls(lesions=[lesion]) for lesion in LESIONS)
    assert (plain.stored[conditioned] != guided.stored[conditioned]).any()
    assert np.abs(plain.stored[free].astype(int) - guided.stored[free]).max() <= 1


def test_eta_0_differs_from_eta_1(paint, case, tmp_path):
    first, second = (paint(tmp_path / str(eta), **case, texture="solid", eta=eta) for eta in (0, 1))
    assert (first.stored != second.stored)[balls()].mean() > 0.5


def test_half_precision_leaves_the_background_alone(paint, case, tmp_path):
    output = paint(tmp_path, **case, texture="solid", amp_dtype="bfloat16")
    assert np.array_equal(output.stored[~balls()], chest()[~balls()])
    assert np.mean(output.stored[balls()] != chest()[balls()]) > 0.95


def test_intermediate_states_are_kept_on_request(paint, case, tmp_path):
    output = paint(tmp_path, **case, texture="solid", save_intermediates=True, num_inference_steps=3)
    assert [name for name in output.files() if name.startswith("states")] == [
        "states/states_0000.pt",
        "states/states_0001.pt",
    ]
    content = torch.load(tmp_path / "states" / "states_0001.pt", weights_only=True)
    assert content["timesteps"].tolist() == [299, 199, 99, -1]
    assert content["states"].shape == (4, 1, 1, 16, 16, 16)
    assert content["states"][0].float().std() == pytest.approx(1, abs=0.05), "begins with noise"


@pytest.mark.parametrize("overlay", ["paper_sampler", "diffused"])
def test_overlays_run(paint, case, tmp_path, forwards, overlay):
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", overlay)]
    own = save_tiny_weights(tmp_path / "own.pt", in_channels=1 if overlay == "diffused" else 2)
    jumps = {"jump_length": 1, "jump_n_sample": 2}
    output = paint(tmp_path / "out", **case, config_file=files, weights=str(own), texture="solid", **jumps)
    assert len(forwards) == 6
    assert np.array_equal(output.stored != chest(), balls())
