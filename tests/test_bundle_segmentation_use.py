"""The segmentation bundle in use: measures of cases with known answers, and label maps of scans on any grid."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import causes, save_nifti, stored_of
from segmentation_runs import RAS, Threshold, ball, evaluate, save_case, save_nodules, segment, summary_of

from custom_components.errors import InputError


@pytest.fixture(scope="module")
def nodules(tmp_path_factory) -> Path:
    return save_nodules(tmp_path_factory.mktemp("nodules"))


# ----------------------------------------------------------------------------------------- evaluation


@pytest.fixture
def threshold(tmp_path) -> dict[str, Any]:
    """Overrides under which the network is that of :class:`Threshold`."""
    torch.save(Threshold().state_dict(), tmp_path / "threshold.pt")
    return {
        "device": "cpu",
        "weights": str(tmp_path / "threshold.pt"),
        "network_def#_target_": "segmentation_runs.Threshold",
    }


def test_measures_are_those_of_known_cases(threshold, tmp_path):
    """Painted as bright: what is found. Labelled: the truth. Known overlaps, an empty reference and an empty case."""
    shape, affine = (24, 24, 20), np.diag([1.0, 1.0, 1.5, 1.0])
    truth = np.zeros(shape)
    truth[6:14, 6:14, 6:14] = 1
    half = np.zeros(shape)
    half[6:14, 6:14, 10:14] = 1
    nothing = np.zeros(shape)
    for name, found, label in (
        ("exact", truth, truth),
        ("half", half, truth),
        ("missed", nothing, truth),
        ("false", truth, nothing),
        ("none", nothing, nothing),
        ("anatomy", truth, np.where(truth, 1, 7)),
    ):
        save_case(tmp_path / "data", name, found, affine)
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", label.astype(np.uint8), affine)
    lists = {"test_lists": [str(tmp_path / "data")], "spacing_mm": [1.0, 1.0, 1.5], "spatial_size": [16, 16, 16]}
    file = threshold.pop("weights")
    evaluate(tmp_path / "out", file, **threshold, **lists, nsd_tolerance_mm=1.0)
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "metrics.csv").open())}
    dice = {name: row["dice"] for name, row in rows.items()}
    assert dice.pop("none") == rows["none"]["nsd"] == ""
    expected = {"exact": 1, "anatomy": 1, "half": 2 / 3, "missed": 0, "false": 0}
    assert {name: float(value) for name, value in dice.items()} == pytest.approx(expected)
    # Border voxels: 296 of the truth, 184 of the half, 148 in common. The half's inner face has 36 more, of which those
    # beside the truth's sides, 20, lie 1 mm from them. What the half misses of the truth lies at least 1.5 mm off.
    assert float(rows["half"]["nsd"]) == pytest.approx((148 + 20 + 148) / (296 + 184))
    summary = summary_of(tmp_path / "out")
    assert summary["cases"] == 6
    lesion = summary["classes"]["lesion"]
    assert lesion["excluded"] == 1
    assert lesion["dice"]["n"] == 5
    assert lesion["dice"]["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert lesion["dice"]["sd"] == pytest.approx(np.std(list(expected.values()), ddof=1))
    assert float(rows["half"]["predicted_ml"]) == pytest.approx(256 * 1.5 / 1000)


def test_earlier_measures_are_not_overwritten(threshold, nodules, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    with pytest.raises(Exception) as error:
        evaluate(tmp_path / "out", threshold.pop("weights"), **threshold, test_lists=[str(nodules)])
    assert any(isinstance(cause, InputError) and "--overwrite true" in str(cause) for cause in causes(error.value))


# ----------------------------------------------------------------------------------------- inference


def askew() -> np.ndarray:
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.array([[0, -0.8, 0], [0.8, 0, 0], [0, 0, 2.0]]), (-20, 31, 7)
    return affine


def test_label_map_lies_on_the_scan_s_own_grid_with_the_class_s_value(threshold, tmp_path):
    label = ball((40, 36, 16), (22, 14, 8), 7)
    scan = save_case(tmp_path, "ct", label, askew())
    segment(image=str(scan), output_dir=str(tmp_path / "out"), lesion_classes={"lesion": 5}, **threshold)
    found = nib.load(tmp_path / "out" / "ct_segmentation.nii.gz")
    np.testing.assert_allclose(found.affine, nib.load(scan).affine, atol=1e-5)
    values = stored_of(tmp_path / "out" / "ct_segmentation.nii.gz")
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 5}
    assert 2 * ((values == 5) & label).sum() / ((values == 5).sum() + label.sum()) > 0.9
    record = json.loads((tmp_path / "out" / "ct_segmentation.json").read_text())
    assert record["bundle"]["name"] == "lesion_segmentation"
    assert record["volume_ml"]["lesion"] == pytest.approx((values == 5).sum() * 0.8 * 0.8 * 2 / 1000, rel=1e-3)
    assert (tmp_path / "out" / "ct_panel.png").stat().st_size > 5000


def test_folder_of_scans_needs_no_labels_and_is_completed(threshold, tmp_path):
    for name in "ab":
        save_case(tmp_path / "data", name, ball((20, 20, 20), (9, 9, 9), 4))
    for path in (tmp_path / "data" / "labels").iterdir():
        path.unlink()
    settings = {**threshold, "dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "panel": False}
    segment(**settings)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{n}_segmentation.{kind}" for n in "ab" for kind in ("json", "nii.gz")]
    (tmp_path / "out" / "b_segmentation.json").unlink()
    before = (tmp_path / "out" / "a_segmentation.json").stat().st_mtime_ns
    with pytest.raises(Exception) as error:
        segment(**settings)
    assert any(isinstance(cause, InputError) and "exists already" in str(cause) for cause in causes(error.value))
    segment(**settings, resume=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "a_segmentation.json").stat().st_mtime_ns == before


def test_mirroring_changes_nothing_for_a_network_that_knows_no_sides(threshold, tmp_path):
    scan = save_case(tmp_path, "ct", ball((20, 20, 20), (9, 8, 11), 4), RAS)
    for name, axes in (("plain", None), ("mirrored", [0, 1, 2])):
        segment(image=str(scan), output_dir=str(tmp_path / name), mirror_axes=axes, panel=False, **threshold)
    first, second = (stored_of(tmp_path / name / "ct_segmentation.nii.gz") for name in ("plain", "mirrored"))
    assert first.any()
    assert np.array_equal(first, second)
