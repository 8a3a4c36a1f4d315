"""The grey levels of Hand-Crafted texture from lesions whose levels are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bundle_runs import save_nifti

from custom_components.baselines import HandCraftedTexture, core_moments, level_ranges, read_levels
from custom_components.bundle_configs import bundle_root
from custom_components.datasets import split_by_patient
from custom_components.errors import InputError
from lefusion_scripts.fit_texture_levels import fit_texture_levels

PATIENTS = [f"patient_{number:02d}" for number in range(15)]
HELD_OUT = {case["patient"] for case in split_by_patient([{"patient": p} for p in PATIENTS], 0.25, "validation")}
AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])


def ball(size: int, radius: float) -> np.ndarray:
    return ((np.indices((size,) * 3) - (size - 1) / 2) ** 2).sum(axis=0) <= radius**2


def hu_of(value: float) -> float:
    """HU of a network value, by the bundle's window."""
    return -1000 + (value + 1) / 2 * 1400


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Balls with alternating voxels at level - spread and level + spread in the core, and anything in the rim."""
    root = tmp_path_factory.mktemp("lesions")
    known = [number for number, patient in enumerate(PATIENTS) if patient not in HELD_OUT]
    stripes = np.where(np.indices((20, 20, 20))[0] % 2, 1, -1)
    for number, patient in enumerate(PATIENTS):
        place = known.index(number) if number in known else None
        level, spread = (0.9, 0.05) if place is None else (-0.5 + 0.1 * place, 0.1 + 0.01 * place)
        image = np.full((20, 20, 20), 1000.0)
        image[ball(20, 7)] = -1000
        core = ball(20, 6.6)
        image[core] = hu_of(level + spread * stripes[core])
        save_nifti(root / "images" / f"{patient}.nii.gz", image.astype(np.float32), AFFINE)
        save_nifti(root / "labels" / f"{patient}.nii.gz", ball(20, 7).astype(np.uint8), AFFINE)
    return root, len(known)


def test_ranges_are_those_of_the_cores_of_the_training_lesions(data, tmp_path):
    root, count = data
    content = fit_texture_levels(str(root), str(tmp_path / "levels.json"), val_fraction=0.25)
    assert content == json.loads((tmp_path / "levels.json").read_text())
    assert content["fitted_on"]["count"] == {"lesion": count}
    steps = np.percentile(np.arange(count), [10, 90])
    levels = content["levels"]["lesion"]
    np.testing.assert_allclose(levels["mean"], -0.5 + 0.1 * steps, atol=0.02)  # as many odd as even stripes, nearly
    np.testing.assert_allclose(levels["std"], 0.1 + 0.01 * steps, atol=0.006)


def test_file_that_was_fitted_is_what_the_method_draws_from(data, tmp_path):
    fit_texture_levels(str(data[0]), str(tmp_path / "levels.json"), val_fraction=0.25)
    levels = read_levels(tmp_path / "levels.json")
    assert HandCraftedTexture(["lesion"], levels).levels == levels


@pytest.mark.parametrize("bundle", ["lefusion_lidc", "lefusion_emidec"])
def test_shipped_levels_have_the_classes_of_the_bundle(bundle):
    levels = read_levels(bundle_root(bundle) / "configs" / "texture_levels.json")
    assert list(levels) == (["lesion"] if bundle == "lefusion_lidc" else ["mi", "pmo"])
    HandCraftedTexture(list(levels), levels)  # its checks


def test_core_leaves_out_the_border_of_a_lesion():
    mask = ball(20, 7)
    image = np.where(ball(20, 6.6), 0.3, 9.0)
    assert core_moments(image, mask).tolist() == pytest.approx([0.3, 0])
    assert core_moments(image, mask, softness=0)[0] > 1, "without softness there is no border"


def test_core_of_a_stack_is_found_slice_by_slice():
    """A lesion of one slice has no border towards the slices beside it: its core fills the middle of the slice."""
    mask = np.zeros((20, 20, 5), bool)
    mask[4:16, 4:16, 2] = True
    image = np.where(mask, 0.1, 9.0)
    image[4:16, 4, 2] = 5.0
    assert core_moments(image, mask, in_plane=True).tolist() == pytest.approx([0.1, 0])


def test_ranges_are_the_tenth_to_the_ninetieth_percentile():
    moments = [np.array([value / 10, value / 100]) for value in range(11)]
    assert level_ranges(moments) == {"mean": [0.1, 0.9], "std": [0.01, 0.09]}


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot read"), ("{", "cannot read"), ("[]", "no texture levels"), ('{"levels": 3}', "no")],
)
def test_file_that_holds_no_levels_is_told(tmp_path, text, words):
    if text is not None:
        (tmp_path / "levels.json").write_text(text)
    with pytest.raises(InputError, match=f"{words}.*levels"):
        read_levels(tmp_path / "levels.json")


def test_existing_file_is_not_replaced_unless_asked(data, tmp_path):
    (tmp_path / "levels.json").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        fit_texture_levels(str(data[0]), str(tmp_path / "levels.json"), val_fraction=0.25)
    assert (tmp_path / "levels.json").read_text() == "mine"
    fit_texture_levels(str(data[0]), str(tmp_path / "levels.json"), val_fraction=0.25, overwrite=True)
    assert read_levels(tmp_path / "levels.json")


def test_bundle_without_the_method_is_told(data, tmp_path):
    with pytest.raises(InputError, match=r"diffmask has no hand_crafted_texture\.json"):
        fit_texture_levels(str(data[0]), str(tmp_path / "levels.json"), bundle="diffmask")


def test_class_without_lesions_is_told(tmp_path):
    """Cardiac label maps: all have an infarct (3), none an obstruction (4)."""
    for number in range(3):
        label = np.zeros((16, 16, 4), np.uint8)
        label[2:12, 2:12], label[5:9, 5:9] = 2, 3
        image = np.random.default_rng(number).normal(100, 20, label.shape).astype(np.float32)
        save_nifti(tmp_path / "images" / f"P{number}.nii.gz", image, np.diag([1.4, 1.4, 10, 1]))
        save_nifti(tmp_path / "labels" / f"P{number}.nii.gz", label, np.diag([1.4, 1.4, 10, 1]))
    with pytest.raises(InputError, match=r"0 training cases of .* class pmo"):
        fit_texture_levels(str(tmp_path), str(tmp_path / "l.json"), val_fraction=0, bundle="lefusion_emidec")
    assert not (tmp_path / "l.json").exists()
