"""Copied lesions lie where they lay, as large as they were, in hearts whose shape is known."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom_components.errors import InputError
from custom_components.lesion_transfer import copy_lesions

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def heart(radius: float = 12, wall: float = 8, slices: int = 8, size: int = 64, stretch: float = 1.0) -> np.ndarray:
    """A ventricle of cavity 1 and wall 2, lengths in voxels, half as wide at its apex (slice 0) as at its base."""
    x, y = np.mgrid[:size, :size] - (size - 1) / 2
    scale = 0.5 + 0.5 * (np.arange(slices) + 0.5) / slices
    reach = np.hypot(x, y / stretch)[..., None] / scale
    return np.where(reach < radius, 1, np.where(reach < radius + wall, 2, 0)).astype(np.uint8)


def with_lesion(labels: np.ndarray, heights=(0.1, 0.6), degrees=(20, 110), depths=(0, 0.6), core=True) -> np.ndarray:
    """Infarct 3 in a sector of the wall of :func:`heart` and its core 4 well within, both ends included."""
    size, slices = labels.shape[0], labels.shape[2]
    x, y = np.mgrid[:size, :size] - (size - 1) / 2
    angle = np.rad2deg(np.arctan2(y, x))[..., None]
    height = (np.arange(slices) + 0.5) / slices
    outer = np.sqrt((labels > 0).sum(axis=(0, 1)) / np.pi)
    inner = np.sqrt((labels == 1).sum(axis=(0, 1)) / np.pi)
    depth = (np.hypot(x, y)[..., None] - inner) / (outer - inner)

    def sector(shrink: float) -> np.ndarray:
        inside = labels == 2
        for value, (low, high) in ((height, heights), (angle, degrees), (depth, depths)):
            middle, half = (low + high) / 2, (high - low) / 2 * shrink
            inside = inside & (np.abs(value - middle) <= half)
        return inside

    out = np.where(sector(1), 3, labels)
    return np.where(sector(0.5), 4, out) if core else out


def direction(labels: np.ndarray) -> float:
    """Degrees from the first array axis to the lesion's middle."""
    x, y = (np.argwhere(labels >= 3)[:, :2] - (labels.shape[0] - 1) / 2).mean(axis=0)
    return float(np.rad2deg(np.arctan2(y, x)))


def share(labels: np.ndarray, label: int = 3) -> float:
    return (labels >= label).sum() / (labels >= 2).sum()


def healthy(labels: np.ndarray) -> np.ndarray:
    return np.where(labels >= 3, 2, labels)


@pytest.mark.parametrize("core", [True, False])
def test_copying_onto_itself_reproduces_the_lesion(core):
    source = with_lesion(heart(stretch=1.2), core=core)
    copied = copy_lesions(source, AFFINE, healthy(source), AFFINE)
    for label in (3, 4)[: 1 + core]:
        ours, theirs = copied == label, source == label
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.98
    assert copied.dtype == np.uint8 and (copied == 4).any() == core


def test_lesion_lies_within_the_target_s_myocardium_and_the_rest_stays():
    target = heart(radius=10, wall=5, slices=5, stretch=1.4)
    copied = copy_lesions(with_lesion(heart(slices=9)), AFFINE, target, AFFINE)
    lesion = copied >= 3
    assert lesion.any() and (target[lesion] == 2).all()
    np.testing.assert_array_equal(copied[~lesion], target[~lesion])


@pytest.mark.parametrize(
    "target", [{"radius": 24, "wall": 16, "size": 128}, {"radius": 9, "wall": 9}, {"slices": 5}, {"stretch": 1.5}]
)
def test_lesion_and_core_keep_their_share_of_the_wall(target):
    source = with_lesion(heart())
    copied = copy_lesions(source, AFFINE, heart(**target), AFFINE)
    assert share(copied) == pytest.approx(share(source), rel=0.1)
    assert share(copied, 4) == pytest.approx(share(source, 4), rel=0.2)


def test_heart_twice_as_wide_gets_a_lesion_of_four_times_the_area():
    source = with_lesion(heart())
    copied = copy_lesions(source, AFFINE, heart(radius=24, wall=16, size=128), AFFINE)
    assert (copied >= 3).sum() / (source >= 3).sum() == pytest.approx(4, rel=0.1)


def test_finer_grid_changes_nothing_but_the_number_of_voxels():
    source, target = with_lesion(heart()), heart(radius=24, wall=16, size=128)
    affine = np.diag([0.75, 0.75, 8.0, 1.0])
    affine[:3, 3] = 50
    np.testing.assert_array_equal(
        copy_lesions(source, AFFINE, target, affine), copy_lesions(source, AFFINE, target, AFFINE)
    )


def test_lesion_stays_at_its_height_and_depth():
    source = with_lesion(heart(), heights=(0, 0.5), depths=(0, 0.5), core=False)
    target = heart(radius=10, wall=10, slices=4)
    copied = copy_lesions(source, AFFINE, target, AFFINE)
    assert (copied >= 3).any(axis=(0, 1)).tolist() == [True, True, False, False]
    outer_half = ndimage.distance_transform_edt(target > 0, sampling=(1, 1, 100)) < 0.3 * 10 * 0.5
    assert not (copied[outer_half] >= 3).any()


def test_apex_meets_apex_whichever_way_the_slices_are_stored():
    source, target = with_lesion(heart(), heights=(0, 0.4)), heart(slices=6)
    copied = copy_lesions(source, AFFINE, target, AFFINE)
    turned = copy_lesions(source, AFFINE, target[..., ::-1], AFFINE)
    np.testing.assert_array_equal(turned[..., ::-1], copied)


def test_core_stays_enclosed_by_the_infarct():
    source = with_lesion(heart(radius=18, wall=16, size=80), degrees=(0, 140), depths=(0, 0.9))
    copied = copy_lesions(source, AFFINE, heart(radius=14, wall=12, slices=6, stretch=1.2), AFFINE)
    for labels in (source, copied):
        around = ndimage.binary_dilation(labels == 4, np.ones((3, 3, 1)))
        assert (labels == 4).any() and np.isin(labels[around], (3, 4)).all()


@pytest.mark.parametrize("slices", [3, 5, 7, 11, 16])
def test_lesion_in_one_piece_stays_in_one_piece_without_holes(slices):
    source = with_lesion(heart(), degrees=(0, 80), depths=(0, 0.35), core=False)
    lesion = copy_lesions(source, AFFINE, heart(radius=14, slices=slices, stretch=1.2), AFFINE) >= 3
    assert ndimage.label(lesion, np.ones((3, 3, 3)))[1] == 1
    for part in np.moveaxis(lesion, -1, 0):
        assert (ndimage.binary_fill_holes(part) == part).all()


@pytest.mark.parametrize("rotation", [90, -45, 180])
def test_rotation_turns_the_lesion(rotation):
    source = with_lesion(heart())
    copied = copy_lesions(source, AFFINE, heart(), AFFINE, rotation_deg=rotation)
    turn = (direction(copied) - direction(source) - rotation + 180) % 360 - 180
    assert abs(turn) < 3


def test_quarter_turn_of_a_round_heart_is_that_of_the_array():
    source = with_lesion(heart())
    copied = copy_lesions(source, AFFINE, heart(), AFFINE, rotation_deg=90)
    assert (copied != np.rot90(source)).sum() < 0.02 * (source >= 3).sum()


@pytest.mark.parametrize("stored", ["flipped", "transposed", "oblique"])
def test_direction_is_kept_in_the_patient_not_in_the_array(stored):
    """The same target, stored another way, gets the same lesion at the same place of the patient."""
    source, target = with_lesion(heart()), heart(radius=13, wall=7)
    expected = copy_lesions(source, AFFINE, target, AFFINE)
    if stored == "flipped":
        affine = AFFINE @ np.array([[-1, 0, 0, 63], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        copied = copy_lesions(source, AFFINE, target[::-1], affine)[::-1]
    elif stored == "transposed":
        affine = AFFINE[:, [2, 1, 0, 3]]
        copied = copy_lesions(source, AFFINE, target.transpose(2, 1, 0), affine).transpose(2, 1, 0)
    else:  # both patients lie askew: only what differs between them counts
        tilt = nib.eulerangles.euler2mat(0.4, -0.3, 0.7)
        affine = nib.affines.from_matvec(tilt @ AFFINE[:3, :3])
        copied = copy_lesions(source, affine, target, affine)
    assert (copied != expected).sum() <= 0.02 * (expected >= 3).sum()


@pytest.mark.parametrize("angles", [(0, 0.5, 0), (0, 0, -0.7)])
def test_tilted_slice_plane_keeps_the_direction(angles):
    tilt = nib.affines.from_matvec(nib.eulerangles.euler2mat(*angles) @ AFFINE[:3, :3])
    source = with_lesion(heart())
    assert direction(copy_lesions(source, AFFINE, heart(), tilt)) == pytest.approx(direction(source), abs=3)


def test_apex_without_cavity_takes_part():
    source, target = with_lesion(heart(), heights=(0, 0.5)), heart()
    target[..., 0][target[..., 0] == 1] = 2
    assert (copy_lesions(source, AFFINE, target, AFFINE)[..., 0] >= 3).any()


def test_labels_and_the_number_of_classes_are_the_caller_s():
    renamed = np.array([0, 7, 9, 2, 1, 5])[with_lesion(heart())]
    renamed[(renamed == 2) & (np.arange(64) < 40)[:, None, None]] = 5
    copied = copy_lesions(
        renamed, AFFINE, np.array([0, 7, 9])[heart()], AFFINE, cavity=7, myocardium=9, classes=(2, 1, 5)
    )
    assert (copied == renamed).mean() > 0.999
    assert set(np.unique(copied)) == {0, 1, 2, 5, 7, 9}


@pytest.mark.parametrize(
    ("source", "target", "options", "message"),
    [
        (heart(), heart(), {}, r"the source has no lesion \(labels 3, 4\)"),
        (with_lesion(heart()), heart() % 2, {}, r"the target has no myocardium \(label 2\)"),
        (with_lesion(heart()), np.zeros((9, 9, 3), int), {}, r"the target has no cavity \(label 1\)"),
        (with_lesion(heart()), with_lesion(heart()), {}, "the target has lesions of its own"),
        (with_lesion(heart()) * 2, heart(), {}, "the source holds the label 6"),
        (with_lesion(heart()), heart(), {"classes": (3,)}, "the source holds the label 4"),
        (with_lesion(heart()), heart(), {"classes": (2, 3)}, "must be different labels"),
        (with_lesion(heart()), heart(), {"classes": ()}, "must be different labels"),
        (heart() + (np.indices((64, 64, 8)).sum(0) == 51) * 2 * (heart() == 1), heart(), {"names": ("A", "B")}, "A"),
    ],
)
def test_unsuitable_hearts_are_refused_in_one_sentence(source, target, options, message):
    with pytest.raises(InputError, match=message) as error:
        copy_lesions(source, AFFINE, target, AFFINE, **options)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_lesion_too_small_for_the_target_s_slices_is_told():
    source = heart(slices=9)
    source[31, 18, 3] = 3  # between the slices of the target
    with pytest.raises(InputError, match="no voxel of the lesion of the source"):
        copy_lesions(source, AFFINE, heart(slices=1), AFFINE)


def test_real_hearts_of_different_patients(data_dir):
    folder = data_dir / "emidec"
    sources = sorted((folder / "Pathological" / "labels").glob("*.nii.gz"))[::19]
    targets = sorted((folder / "Normal" / "labels").glob("*.nii.gz"))[::11]
    if not sources or not targets:
        pytest.skip(f"no hearts in {folder}")
    for source, target in zip(map(nib.load, sources), map(nib.load, targets), strict=False):
        there, here = (np.asarray(image.dataobj).astype(np.uint8) for image in (source, target))
        copied = copy_lesions(there, source.affine, here, target.affine)
        assert (here[copied >= 3] == 2).all()
        assert 0.6 < share(copied) / share(there) < 1.5
