"""Lesions get the textures that are asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundle_runs import (
    same_excepthook,  # noqa: F401 (a fixture)
)
from lung_runs import (
    BUNDLE,
    case_fixture,  # noqa: F401 (a fixture)
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, balls, save_case

FLAT = [1 / 16] * 16


def test_each_lesion_gets_the_texture_asked_for_it(paint, tmp_path):
    lesions = [((8, 9, 8), 3.0), ((24, 9, 15), 3.4), ((16, 22, 21), 4.0)]
    files = save_case(tmp_path / "in", mask=balls(lesions=lesions))
    output = paint(tmp_path / "out", **files, texture=["part_solid", FLAT, "none"])
    named, given, none = output.sidecar["lesions"]
    assert [lesion["spec"]["texture"] for lesion in (named, given, none)] == ["part_solid", "custom", "none"]
    assert given["spec"]["histogram"] == pytest.approx(FLAT)
    assert none["spec"]["histogram"] == [0] * 16
    assert none["histogram_distance"] is None
    preset = json.loads((BUNDLE / "configs" / "texture_presets.json").read_text())["presets"]["part_solid"]
    ratio = np.array(named["spec"]["histogram"])[np.array(preset) > 0] / np.array(preset)[np.array(preset) > 0]
    assert (ratio >= 0.9 / 1.1 - 1e-6).all()
    assert (ratio <= 1.1 / 0.9 + 1e-6).all()
    assert np.ptp(ratio) > 0.01, "each bin is perturbed on its own"
    assert sum(named["spec"]["histogram"]) == pytest.approx(1)


def test_one_texture_holds_for_every_lesion_and_steers_the_painting(paint, case, tmp_path):
    dark, light = (paint(tmp_path / name, **case, texture=name) for name in ("ground_glass", "solid"))
    assert [spec["texture"] for spec in light.specs] == ["solid", "solid"]
    for lesion in LESIONS:
        mask = balls(lesions=[lesion])
        assert light.stored[mask].mean() > dark.stored[mask].mean() + 100


def test_random_texture_follows_its_weights(paint, case, tmp_path):
    weights = {"part_solid": 1, "solid": 0, "ground_glass": 0}
    output = paint(tmp_path, **case, texture="random", texture_weights=weights, texture_perturbation=0)
    assert [spec["texture"] for spec in output.specs] == ["part_solid", "part_solid"]
    preset = json.loads((BUNDLE / "configs" / "texture_presets.json").read_text())["presets"]["part_solid"]
    assert output.specs[0]["histogram"] == pytest.approx(np.array(preset) / np.sum(preset), abs=1e-6)


def test_presets_can_be_the_user_s_own(paint, case, tmp_path):
    presets = tmp_path / "presets.json"
    presets.write_text(json.dumps({"presets": {"calcified": [0.0] * 15 + [1.0]}}))
    output = paint(
        tmp_path / "out", **case, texture="calcified", texture_presets=str(presets), texture_weights={"calcified": 1}
    )
    assert [spec["texture"] for spec in output.specs] == ["calcified", "calcified"]
    assert output.stored[balls()].mean() > 0
