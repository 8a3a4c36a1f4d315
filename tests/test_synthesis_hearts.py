"""Sets of a bundle that paints two lesion classes jointly, in stacks of thick slices with label maps."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import BUNDLES, TINY_NETWORK, save_nifti, save_weights_of, stored_of
from synthesis_runs import Made, make
from thick_stacks import affine_of, ring, signal

from custom_components.errors import InputError
from custom_components.synthesis.records import read_manifest


@pytest.fixture(scope="module")
def painter(tmp_path_factory) -> dict:
    weights = save_weights_of(BUNDLES / "lefusion_emidec", tmp_path_factory.mktemp("painter") / "painter.pt")
    tiny = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
    steps = {"num_inference_steps": 1, "mask_num_inference_steps": 2, "spatial_size": [32, 32, 8]}
    return {**tiny, **steps, "device": "cpu", "mask_device": "cpu", "weights": str(weights)}


def save_hearts(folder: Path, lesion: bool) -> Path:
    for seed, name in enumerate("ab"):
        label = ring(lesion=lesion)
        save_nifti(folder / "images" / f"{name}.nii.gz", signal(label, seed).astype(np.uint8), affine_of())
        save_nifti(folder / "labels" / f"{name}.nii.gz", label, affine_of())
    return folder


@pytest.fixture(scope="module")
def normal(tmp_path_factory) -> Path:
    return save_hearts(tmp_path_factory.mktemp("normal"), lesion=False)


@pytest.fixture(scope="module")
def sick(tmp_path_factory) -> Path:
    return save_hearts(tmp_path_factory.mktemp("sick"), lesion=True)


def check(root: Path, source: Path, case: str, scan: str) -> np.ndarray:
    """A case's background is its scan, its lesion lies in the wall, and its files agree; the label map."""
    made = Made(root, case)
    label, image = made.stored("labels"), made.stored("images")
    original, heart = (stored_of(source / part / f"{scan}.nii.gz") for part in ("images", "labels"))
    assert np.array_equal(image[label == 0], original[label == 0])
    assert label.any() and set(np.unique(label)) <= {0, 3, 4}
    assert np.array_equal(made.stored("instances"), label > 0)
    assert np.isin(heart[label > 0], (2, 3, 4)).all()
    assert np.allclose(nib.load(root / "images" / f"{case}.nii.gz").affine, affine_of(), atol=1e-4)
    return label


def test_masks_are_drawn_into_the_wall_of_normal_hearts(painter, normal, tmp_path):
    make(normal, tmp_path / "set", painter, bundle="lefusion_emidec", set="N'")
    assert [record["case"] for record in read_manifest(tmp_path / "set")] == ["a_s1", "a_s2", "b_s1", "b_s2"]
    labels = [check(tmp_path / "set", normal, case, case[0]) for case in ("a_s1", "a_s2", "b_s1", "b_s2")]
    assert not np.array_equal(labels[0], labels[1])
    origin = Made(tmp_path / "set", "a_s1").sidecar["synthesis"]
    assert (origin["organ"]["source"], origin["organ"]["file"], len(origin["sites"])) == ("given", "a.nii.gz", 1)


def test_lesions_of_sick_hearts_are_repainted(painter, sick, tmp_path):
    make(sick, tmp_path / "set", painter, bundle="lefusion_emidec", set="P'", texture={"mi": "weak", "pmo": "dark"})
    label = check(tmp_path / "set", sick, "a", "a")
    heart = ring(lesion=True)
    assert np.array_equal(label, np.where(heart >= 3, heart, 0))
    textures = {
        entry["spec"]["lesion_class"]: entry["spec"]["texture"]
        for entry in Made(tmp_path / "set", "a").sidecar["lesions"]
    }
    assert textures == {"mi": "weak", "pmo": "dark"}


def test_lesions_are_copied_from_wall_to_wall(painter, normal, sick, tmp_path):
    make(normal, tmp_path / "set", painter, bundle="lefusion_emidec", masks="copy", library=sick)
    label = check(tmp_path / "set", normal, "a", "a")
    assert (label > 0).sum() == pytest.approx((ring(lesion=True) >= 3).sum(), rel=0.1)
    (site,) = Made(tmp_path / "set", "a").sidecar["synthesis"]["sites"]
    assert site["library_lesion"] in "ab" and site["radius_mm"] > 0


def test_hearts_with_lesions_of_their_own_are_not_taken_for_normal_ones(painter, sick, tmp_path):
    failures = make(sick, tmp_path / "set", painter, bundle="lefusion_emidec")
    assert len(failures) == 2 and all("holds lesions" in failure["error"] for failure in failures)


@pytest.mark.parametrize("given", [{"lesions": 2}, {"set": "copy_paste", "library": "sick"}])
def test_what_joint_painting_cannot_do_is_refused(given, painter, normal, tmp_path):
    with pytest.raises(InputError, match="as one lesion"):
        make(normal, tmp_path / "set", painter, bundle="lefusion_emidec", **given)
