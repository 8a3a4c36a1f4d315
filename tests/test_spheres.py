"""Control spheres: as given, checked, or drawn at random inside an organ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.spheres import check_spheres, random_spheres, read_radii, read_spheres
from custom_components.volumes import Scan

AFFINE = np.diag([-2.0, 2.0, 4.0, 1.0])
AFFINE[:3, 3] = (50, -20, 100)
SCAN = Scan(Path("scan.nii.gz"), np.zeros((30, 30, 20), np.uint8), 1.0, 0.0, AFFINE)


def organ() -> np.ndarray:
    inside = np.zeros(SCAN.stored.shape, bool)
    inside[5:25, 5:25, 4:16] = True
    return inside


def test_voxel_indices_become_scanner_millimetres():
    assert read_spheres([[10, 10, 5, 6]], "voxel", SCAN) == [((30.0, 0.0, 120.0), 6.0)]
    assert read_spheres([30, 0, 120, 6], "mm", SCAN) == [((30.0, 0.0, 120.0), 6.0)]


@pytest.mark.parametrize(
    ("spheres", "coordinates", "named"),
    [
        ([[1, 2, 3]], "mm", "four numbers"),
        ([[1, 2, 3, "big"]], "mm", "four numbers"),
        ([[1, 2, float("nan"), 4]], "mm", "not finite"),
        ([[1, 2, 3, float("inf")]], "mm", "not finite"),
        ([[1, 2, 3, 4]], "cm", "coordinates"),
        ([], "mm", "empty"),
        ("here", "mm", "four numbers"),
    ],
)
def test_malformed_spheres_are_refused(spheres, coordinates, named):
    with pytest.raises(InputError, match=named):
        read_spheres(spheres, coordinates, SCAN)


@pytest.mark.parametrize(
    ("spheres", "named"),
    [
        ([((20, 10, 140), 0.0)], "above 0"),
        ([((20, 10, 140), -3.0)], "above 0"),
        ([((20, 10, 140), 33.0)], "more than the crop holds"),
        ([((200, 10, 140), 5.0)], "outside the scan"),
        ([((48, -18, 102), 3.0)], "no voxel of the organ"),
        ([((20, 10, 140), 8.0), ((26, 10, 140), 8.0)], "overlap"),
    ],
    ids=["zero", "negative", "too large", "outside the scan", "outside the organ", "overlapping"],
)
def test_sphere_that_cannot_be_drawn_in_is_refused(spheres, named):
    with pytest.raises(InputError, match=named) as error:
        check_spheres(spheres, SCAN, organ(), 32.0, "case")
    assert "\n" not in str(error.value)


def test_good_spheres_pass_and_may_reach_out_of_the_organ():
    check_spheres([((20, 10, 140), 8.0), ((38, -8, 120), 8.0)], SCAN, organ(), 32.0, "case")


def test_random_balls_lie_in_the_organ_apart_and_have_the_radii_asked_for():
    quantiles = np.array([3.0, 6.0])
    spheres = random_spheres(5, SCAN, organ(), quantiles, "ball", np.random.default_rng(0), "case")
    assert len(spheres) == 5
    grid = np.tensordot(AFFINE[:3, :3], np.indices(SCAN.stored.shape), 1) + AFFINE[:3, 3].reshape(3, 1, 1, 1)
    for number, (centre, radius) in enumerate(spheres):
        assert 3 <= radius <= 6
        distance = np.linalg.norm(grid - np.reshape(centre, (3, 1, 1, 1)), axis=0)
        assert organ()[distance < radius].all()
        for other, reach in spheres[:number]:
            assert np.linalg.norm(np.subtract(centre, other)) >= radius + reach + 2


def test_centre_placement_needs_the_centre_alone_in_the_organ():
    thin = np.zeros(SCAN.stored.shape, bool)
    thin[10, 10, :] = True
    with pytest.raises(InputError, match="no room"):
        random_spheres(1, SCAN, thin, np.array([6.0, 6.0]), "ball", np.random.default_rng(0), "case")
    ((centre, _),) = random_spheres(1, SCAN, thin, np.array([6.0, 6.0]), "centre", np.random.default_rng(0), "case")
    assert centre[:2] == (30.0, 0.0)


@pytest.mark.parametrize(("count", "placement", "named"), [(0, "ball", "num_random"), (1, "inside", "placement")])
def test_bad_request_for_random_spheres_is_refused(count, placement, named):
    with pytest.raises(InputError, match=named):
        random_spheres(count, SCAN, None, np.array([3.0, 4.0]), placement, np.random.default_rng(0), "case")


@pytest.mark.parametrize(
    "content", ["nonsense", '{"a": 1}', '{"radius_mm_quantiles": [3, 2]}', '{"radius_mm_quantiles": [0, 2]}']
)
def test_unfit_distribution_of_radii_is_refused(tmp_path, content):
    path = tmp_path / "radii.json"
    path.write_text(content)
    with pytest.raises(InputError, match="radi"):
        read_radii(path)
    path.write_text(json.dumps({"radius_mm_quantiles": [1, 2, 3]}))
    assert read_radii(path).tolist() == [1, 2, 3]
