"""Lungs found in whole chests, in crops, and in what is no chest."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from made_up_chest import chest_affine, made_up_chest
from scipy import ndimage

from custom_components.errors import InputError
from custom_components.organs import find_lungs
from custom_components.volumes import Scan, read_mask, read_scan


@lru_cache
def chest() -> tuple[Scan, np.ndarray]:
    return made_up_chest(*chest_affine((2.0, 2.0, 2.0)))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    ("spacing_mm", "codes", "tilt_deg"),
    [
        ((3.0, 3.0, 3.0), "RAS", 0),
        ((2.0, 2.0, 4.0), "LPS", 0),
        ((1.4, 1.4, 8.0), "LAS", 0),
        ((4.0, 2.5, 2.5), "SPL", 0),
        ((2.8, 2.8, 2.8), "AIR", 15),
    ],
    ids=["isotropic", "lps", "thick slices", "sagittal", "oblique"],
)
def test_lungs_of_a_whole_chest_are_found_in_any_orientation_and_spacing(spacing_mm, codes, tilt_deg):
    scan, lungs = made_up_chest(*chest_affine(spacing_mm, codes, tilt_deg))
    found = find_lungs(scan)
    assert found.dtype == bool
    assert found.shape == scan.stored.shape
    assert dice(found, lungs) > 0.95


def test_fine_grid_gives_a_fine_border():
    affine, _ = chest_affine((0.8, 0.8, 1.0))
    affine[:3, 3] += affine[:3, :3] @ [320, 120, 110]
    scan, lungs = made_up_chest(affine, (90, 100, 60))
    assert dice(find_lungs(scan), lungs) > 0.985


def test_vessels_belong_to_the_lung_and_other_air_does_not():
    scan, lungs = chest()
    found = find_lungs(scan)
    deep = ndimage.binary_erosion(lungs, iterations=3)
    vessels = deep & (scan.values() > -200)
    assert vessels.sum() > 100
    assert found[vessels].mean() > 0.98
    # Trachea, stomach, table and outside: nowhere but next to the lungs is anything found.
    assert (found & ~ndimage.binary_dilation(lungs, iterations=3)).sum() < 1e-4 * lungs.sum()


def test_rescaled_integers_are_the_same_lungs():
    scan, _ = made_up_chest(*chest_affine((3.0, 3.0, 3.0)))
    shifted = replace(scan, stored=(2 * (scan.stored.astype(np.int32) + 1200)).astype(np.uint16), slope=0.5)
    np.testing.assert_array_equal(find_lungs(replace(shifted, intercept=-1200.0)), find_lungs(scan))
    flipped = replace(scan, stored=-scan.stored, slope=-1.0)
    assert dice(find_lungs(flipped), find_lungs(scan)) > 0.999


@pytest.mark.parametrize("low", [(95, 50, 50), (40, 60, 60), (92, 40, 10)], ids=["at the hilum", "inside", "below"])
def test_crop_that_cuts_the_lung_is_served(low):
    scan, lungs = chest()
    box = tuple(slice(start, start + 26) for start in low)
    crop = replace(scan, stored=scan.stored[box])
    assert dice(find_lungs(crop), lungs[box]) > 0.93


def cylinder(hu_inside: float, radius_mm: float = 100.0) -> Scan:
    x, y, _ = np.indices((100, 100, 60)) * 3.0 - 150
    hu = np.where(np.hypot(x, y) < radius_mm, hu_inside, -1000.0)
    return Scan(Path("phantom.nii.gz"), hu.astype(np.int16), 1.0, 0.0, np.diag([3.0, 3.0, 3.0, 1.0]))


def head() -> Scan:
    """Skull, brain, sinuses of gas and mastoid cells of gas and bone."""
    scan = cylinder(40.0, 80.0)
    x, y, z = np.indices(scan.stored.shape) * 3.0 - 150
    hu = scan.stored.copy()
    hu[np.hypot(x, y) < 80] = 900
    hu[np.hypot(x, y) < 74] = 35
    hu[(np.hypot(x, y - 55) < 15) & (np.abs(z + 60) < 25)] = -1000
    for side in (-1, 1):
        hu[np.sqrt((x - side * 62) ** 2 + (y + 10) ** 2 + (z + 60) ** 2) < 11] = -600
    return replace(scan, stored=hu)


def no_tissue() -> Scan:
    return cylinder(-1000.0)


def all_positive() -> Scan:
    scan = cylinder(300.0)
    return replace(scan, stored=scan.stored + 1000)


def foam() -> Scan:
    """A case of loose foam blocks."""
    scan = cylinder(40.0, 140.0)
    hu = scan.stored.copy()
    for x in range(25, 75, 16):
        for y in range(25, 75, 16):
            hu[x : x + 11, y : y + 11, 10:50] = -700
    return replace(scan, stored=hu)


@pytest.mark.parametrize(
    "scan", [cylinder(0.0), head(), no_tissue(), all_positive(), foam()], ids=["water", "head", "air", "mr", "foam"]
)
def test_scan_without_lungs_is_refused_in_one_sentence(scan):
    with pytest.raises(InputError, match="no lungs") as error:
        find_lungs(scan)
    assert "organ_mask" in str(error.value)
    assert "\n" not in str(error.value)


def test_lungs_of_a_real_chest_have_a_plausible_volume_and_hold_its_nodule(data_dir):
    scan = read_scan(data_dir / "lidc0314" / "lidc0314_ct.nii.gz")
    found = find_lungs(scan)
    litres = found.sum() * scan.spacing_mm.prod() / 1e6
    assert 2.5 < litres < 3.2  # the right upper lobe is consolidated
    assert -850 < scan.values()[found].mean() < -750
    nodule = read_mask(data_dir / "lidc0314" / "lidc0314_nodules.nii.gz", scan)
    assert found[nodule].mean() > 0.9


def test_lungs_of_real_crops_are_found(data_dir):
    for path in sorted((data_dir / "lidc_nodules" / "images").iterdir())[::10]:
        scan = read_scan(path)
        found, hu = find_lungs(scan), scan.values()
        aerated = (hu > -950) & (hu < -700)
        assert found[aerated].mean() > 0.9, path
        assert hu[found].mean() < -600, path


def test_lungs_of_a_thick_sample_are_found(repo_root):
    scan = read_scan(repo_root / "bundles" / "lefusion_lidc" / "sample" / "ct.nii.gz")
    found = find_lungs(scan)
    organ = read_scan(repo_root / "bundles" / "diffmask" / "sample" / "organ.nii.gz")
    assert dice(found, organ.stored > 0) > 0.95
