"""What is measured of a data set, on volumes whose every size is known."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from scipy.spatial import KDTree
from thick_stacks import STORED_WAYS, affine_of, stored_as

from custom_components.fingerprint import CaseMeasures, measure_case, pooled, summarise
from custom_components.fingerprint_picture import save_fingerprint
from custom_components.labels import LesionLabels
from custom_components.volumes import Scan

LABELS = LesionLabels({"tumour": 1, "core": 2}, {"liver": 3})


def measures(
    values: np.ndarray, label: np.ndarray, affine: np.ndarray | None = None, case: str = "case"
) -> CaseMeasures:
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    return measure_case(case, "patient", Scan(Path(case), values, 1.0, 0.0, affine), label, LABELS)


def boxes() -> tuple[np.ndarray, np.ndarray]:
    """A scan of 30 x 28 x 26 voxels with a tumour around a core, and a tumour below them; and a speck of 4 voxels."""
    label = np.zeros((30, 28, 26), np.uint8)
    label[2:28, 2:26, 2:24] = 3
    label[10:16, 10:14, 14:19], label[12:14, 11:13, 16] = 1, 2
    label[20:23, 20:22, 5:7], label[4:6, 4:6, 20] = 1, 1
    return np.array([-800, 50, 10, 100], np.int16)[label], label


def test_lesions_are_components_of_all_classes_without_specks():
    case = measures(*boxes())
    assert case.specks == 1
    assert [lesion.volume_mm3 for lesion in case.lesions] == [{"tumour": 12.0}, {"tumour": 116.0, "core": 4.0}]
    assert [lesion.extent_mm for lesion in case.lesions] == [(3.0, 2.0, 2.0), (6.0, 4.0, 5.0)]
    assert [lesion.number for lesion in case.lesions] == [1, 2]
    assert case.has("core")


def test_surroundings_reach_10_mm_far_whatever_the_voxel_size():
    spacing = np.array([1.0, 2.0, 1.5])
    label = np.zeros((40, 24, 30), np.uint8)
    label[18:22, 10:13, 14:16] = 1
    voxels = np.argwhere(np.ones_like(label)) * spacing
    nearest, _ = KDTree(voxels[label.ravel() == 1]).query(voxels)
    (found,) = measures(nearest.reshape(label.shape), label, np.diag([*spacing, 1])).lesions
    assert 9.5 < found.around.max() <= 10
    assert found.around.min() == 1


def test_intensities_are_those_inside_each_class():
    values, label = boxes()
    case = measures(values, label)
    second = case.lesions[1]
    assert set(second.inside["tumour"]) == {50}
    assert set(second.inside["core"]) == {10}
    assert (case.lowest, case.highest) == (-800, 100)


@pytest.mark.parametrize("way", STORED_WAYS[::7])
def test_sizes_do_not_depend_on_how_a_stack_is_stored(way):
    label = np.zeros((20, 24, 6), np.uint8)
    label[4:9, 10:18, 2:4] = 1
    affine = affine_of((0, 0, 0), (1.5, 1.25, 6.0))
    stored, own = stored_as(label, affine, way)
    case = measures(stored.astype(np.int16), stored, own)
    assert case.thick
    assert case.size == (20, 24, 6)
    assert case.spacing_mm == pytest.approx((1.5, 1.25, 6.0))
    assert case.lesions[0].extent_voxels == pytest.approx((5, 8, 2))
    assert case.lesions[0].extent_mm == pytest.approx((7.5, 10, 12))
    assert case.oblique_degrees == pytest.approx(0, abs=1e-3)


def test_tilt_is_measured():
    values, label = boxes()
    assert measures(values, label, affine_of((12, 0, 0), (1, 1, 1))).oblique_degrees == pytest.approx(12)


@pytest.mark.parametrize(
    ("values", "like_ct"),
    [((-1000, 40), True), ((-1000.5, 40), False), ((-100, 40), False), ((0, 4095), False)],
    ids=["HU", "fractions", "no air", "MR"],
)
def test_ct_is_told_by_whole_numbers_and_air(values, like_ct):
    volume = np.resize(np.array(values, np.float32), (8, 8, 8))
    assert measures(volume, np.zeros((8, 8, 8), np.uint8)).looks_like_ct == like_ct


def test_neighbourhood_is_the_unit_of_relative_values():
    values, label = boxes()
    rng = np.random.default_rng(0)
    values = np.where(label == 1, 300, rng.uniform(0, 100, label.shape))
    for lesion in measures(values, label).lesions[1:]:
        assert np.median(lesion.relative) == pytest.approx((300 - 1) / 98, rel=0.03)


def test_measures_repeat_and_the_summary_is_json():
    values, label = boxes()
    rng = np.random.default_rng(0)
    noisy = values + rng.normal(0, 9, values.shape)
    first, again = (measures(noisy, label) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    normal = measures(values, np.zeros_like(label), case="normal")
    summary = json.loads(json.dumps(summarise([first, normal], LABELS)))
    assert (summary["cases"], summary["normal_cases"], summary["lesions"], summary["specks"]) == (2, 1, 2, 1)
    assert summary["classes"]["core"] == {
        "label": 2,
        "cases": 1,
        "lesions": 1,
        "volume_mm3": summary["classes"]["core"]["volume_mm3"],
    }
    assert summary["classes"]["tumour"]["volume_mm3"]["50"] == 64
    assert summary["orientations"] == {"RAS": 2}
    assert summary["by_case"][1]["lesions"] == []
    assert set(pooled([first, normal], LABELS.names)) == {"whole", "around", "tumour", "core"}


@pytest.mark.parametrize("window", [(-900, 200), None])
def test_picture_is_drawn(tmp_path, window):
    case = measures(*boxes())
    save_fingerprint([case], LABELS.names, tmp_path / "picture.png", (32, 32, 24), window)
    assert matplotlib.image.imread(tmp_path / "picture.png").std() > 0.05
