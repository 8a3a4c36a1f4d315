"""Two lesions of each mask: what is painted by a tiny network, and what is reported of known pairs."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from bundle_runs import BUNDLES, Output, stored_of
from control_runs import quick, read_table
from matplotlib import pyplot as plt
from skimage.metrics import peak_signal_noise_ratio

from custom_components.errors import InputError
from custom_components.specs import find_lesions
from lefusion_scripts.evaluate_diversity import build_report, evaluate_diversity

SITES = 2


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diversity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        report = evaluate_diversity(str(folder / "out"), sites=SITES, seed=4, **quick(folder))
    return folder / "out", report


def test_every_request_is_painted_twice_from_different_seeds(outcome):
    out, report = outcome
    assert report["sites"] == SITES
    for request in ("random", "none"):
        one, other = (Output(out / f"{request}_{k}", "ct") for k in (1, 2))
        assert [spec["box"] for spec in one.specs] == [spec["box"] for spec in other.specs]
        assert all(a["seed"] != b["seed"] for a, b in zip(one.specs, other.specs, strict=True))
        assert (one.stored != other.stored).any()
    textures = {spec["texture"] for k in (1, 2) for spec in Output(out / f"random_{k}", "ct").specs}
    assert textures <= {"ground_glass", "part_solid", "solid"}
    assert {spec["texture"] for spec in Output(out / "none_1", "ct").specs} == {"none"}


def test_psnr_is_near_that_of_the_voxels_of_the_written_scans(outcome):
    """The table's is taken on a grid of 1 mm, this one on the scan's own."""
    out, _ = outcome
    scans = [Output(out / f"none_{k}", "ct").stored for k in (1, 2)]
    affine = Output(out / "none_1", "ct").image.affine
    instances, _ = find_lesions(stored_of(out / "sites.nii.gz") > 0, affine)
    rows = [row for row in read_table(out / "diversity.csv") if row["request"] == "none"]
    for number, row in enumerate(rows, start=1):
        values = [np.clip(scan[instances == number], -1000, 400).astype(float) for scan in scans]
        expected = peak_signal_noise_ratio(*values, data_range=1400)
        assert float(row["psnr"]) == pytest.approx(expected, abs=3)


def test_files_hold_the_report_and_a_row_a_site(outcome):
    out, report = outcome
    assert json.loads((out / "diversity.json").read_text()) == json.loads(json.dumps(report))
    rows = read_table(out / "diversity.csv")
    assert [(row["request"], row["site"]) for row in rows] == [(r, s) for r in ("random", "none") for s in "12"]
    mean = np.mean([float(row["ssim"]) for row in rows[:SITES]])
    assert report["requests"]["random"]["ssim"]["mean"] == pytest.approx(mean)
    assert plt.imread(out / "diversity.png").std() > 0.05


def row(request: str, psnr: float, ssim: float, one: str, other: str) -> dict:
    return {"request": request, "psnr": psnr, "ssim": ssim, "texture_1": one, "texture_2": other, "mean_difference": 10}


def test_report_holds_the_known_answers():
    rows = [
        row("random", 10, 0.2, "solid", "part_solid"),
        row("random", 30, 0.8, "solid", "solid"),
        row("none", 20, 0.5, "none", "none"),
        row("none", float("inf"), 1.0, "none", "none"),  # the same lesion twice
    ]
    report = build_report(rows, ["random", "none"])
    random, none = report["requests"]["random"], report["requests"]["none"]
    assert random["psnr"] == {"mean": 20, "sd": 10}
    assert (random["same_preset"], random["psnr_of_same_preset"]) == (1, 30)
    assert random["sites_less_similar_than_none"] == {"psnr": 1.0, "ssim": 1.0}
    assert none["psnr"] == {"mean": 20, "sd": 0}
    assert "sites_less_similar_than_none" not in none
    json.dumps({**report, "requests": {"random": random}}, allow_nan=False)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"textures": ["random", "random"]}, "textures must name one or more different requests"),
        ({"textures": ["velvet"]}, "unknown texture 'velvet'; known: ground_glass"),
        ({"seed": 1, "panel": True}, "panel is set by the evaluation itself"),
        ({"output_dir": str(BUNDLES / "lefusion_lidc" / "LICENSE")}, "is not a folder that can be written to"),
    ],
)
def test_wrong_options_are_told_before_anything_is_written(given, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        evaluate_diversity(**{"output_dir": str(tmp_path / "out"), **given})
    assert not (tmp_path / "out").exists()
