"""What decides the painted voxels: the seed, and neither batch, nor other cases, nor orientation."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    Output,
    same_excepthook,  # noqa: F401 (a fixture)
)
from lung_runs import (
    case_fixture,  # noqa: F401 (a fixture)
    forwards_fixture,  # noqa: F401 (a fixture)
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import LESIONS, SHAPE, affine_of, balls, chest, save_case


def test_same_seed_gives_the_same_voxels_and_another_seed_others(paint, case, tmp_path):
    first, again, other = (
        paint(tmp_path / str(i), **case, texture="random", seed=seed) for i, seed in enumerate((7, 7, 8))
    )
    assert first.stored.tobytes() == again.stored.tobytes()
    assert first.specs == again.specs
    for number, lesion in enumerate(LESIONS):
        mask = balls(lesions=[lesion])
        assert np.mean(first.stored[mask] != other.stored[mask]) > 0.9
        assert first.specs[number]["seed"] != other.specs[number]["seed"]


def test_lesions_of_one_case_differ_in_noise_and_perturbation(paint, tmp_path):
    mask = balls(lesions=[((10, 16, 8), 3.0), ((10, 16, 22), 3.0)])
    files = save_case(tmp_path / "in", np.full(SHAPE, -850, dtype=np.int16), mask)
    output = paint(tmp_path / "out", **files, texture="solid")
    first, second = output.specs
    assert first["seed"] != second["seed"]
    assert first["histogram"] != second["histogram"]
    assert np.mean(output.stored[..., 5:12][mask[..., 5:12]] != output.stored[..., 19:26][mask[..., 19:26]]) > 0.9


def test_batch_size_does_not_change_the_result(paint, tmp_path, forwards):
    lesions = [((8, 9, 8), 3.0), ((24, 9, 15), 3.4), ((16, 22, 21), 4.0)]
    files = save_case(tmp_path / "in", mask=balls(lesions=lesions))
    textures = ["ground_glass", "solid", "none"]
    single = paint(tmp_path / "1", **files, texture=textures, batch_size=1)
    assert forwards == [1] * 6
    pairs = paint(tmp_path / "2", **files, texture=textures, batch_size=2)
    assert forwards[6:] == [2, 2, 1, 1]
    assert np.abs(single.stored.astype(int) - pairs.stored).max() <= 1
    assert pairs.specs == single.specs


def test_other_cases_of_the_data_set_do_not_change_the_result(paint, case, tmp_path):
    other = save_case(tmp_path / "other", mask=balls(lesions=[((15, 15, 15), 4.0)]))
    entries = [
        {"image": other["image"], "label": other["mask"], "case": "other"},
        {"image": case["image"], "label": case["mask"], "case": "case"},
    ]
    for name, content in (("both", entries), ("one", entries[1:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        paint(tmp_path / name, dataset_dir=str(tmp_path / f"{name}.json"), seed=5, batch_size=2)
    both, one = Output(tmp_path / "both"), Output(tmp_path / "one")
    assert both.files() == sorted([*one.files(), *(name.replace("case_", "other_") for name in one.files())])
    assert np.abs(both.stored.astype(int) - one.stored).max() <= 1
    assert both.specs == one.specs


@pytest.mark.parametrize(
    ("spacing", "centre", "axes"),
    [
        pytest.param((1, 1, 1), (16, 15, 14), "LPS", id="odd LPS"),
        pytest.param((1, 1, 1), (16, 15, 14), "SAL", id="odd SAL"),
        pytest.param((1, 1, 1), (16.5, 15.5, 13.5), "LPS", id="even LPS"),
        pytest.param((1, 1, 1), (16.5, 15.5, 13.5), "SAL", id="even SAL"),
        pytest.param((0.8, 0.9, 2.5), (20, 18, 6), "LPI", id="anisotropic LPI"),
        pytest.param((0.8, 0.9, 2.5), (20, 18, 6), "IPR", id="anisotropic IPR"),
        pytest.param((1, 1, 2), (16, 15, 7), "LPI", id="thick slices LPI"),
        pytest.param((1, 1, 2), (16, 15, 7), "AIR", id="thick slices AIR"),
    ],
)
def test_scan_in_another_orientation_gets_the_same_lesion(paint, tmp_path, spacing, centre, axes):
    shape = tuple(np.ceil(np.array((34, 32, 30)) / spacing).astype(int))
    mask = balls(shape, [(centre, 4.6)], spacing)
    affine = affine_of(spacing)
    plain = paint(tmp_path / "plain", **save_case(tmp_path / "in", chest(shape), mask, affine), texture="solid", seed=1)

    def turn(image: nib.Nifti1Image, letters: str) -> nib.Nifti1Image:
        now, wanted = (nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(letters))
        return image.as_reoriented(nib.orientations.ornt_transform(now, wanted))

    turned = [turn(nib.Nifti1Image(array, affine), axes) for array in (chest(shape), mask.astype(np.uint8))]
    arrays = [np.asarray(image.dataobj) for image in turned]
    files = save_case(tmp_path / "turned in", *arrays, turned[0].affine)
    other = paint(tmp_path / "turned", **files, texture="solid", seed=1)
    back = np.asarray(turn(other.image, "RAS").dataobj)
    assert np.abs(back.astype(int) - plain.stored).max() <= 1
    assert np.allclose(other.specs[0]["centre_mm"], plain.specs[0]["centre_mm"])
    assert other.specs[0]["seed"] == plain.specs[0]["seed"]
