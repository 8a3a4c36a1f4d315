"""Crops that hold the lesion, texture histograms, and condition dropout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom_components.transforms import LesionHistogramd, RandCropToLesiond, RandDropConditiond

SHAPE = (20, 18, 12)


def coded_image(shape=SHAPE) -> np.ndarray:
    """Every voxel's value tells its own index."""
    x, y, z = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    return (x * 10000 + y * 100 + z).astype(np.float32)[None]


def box_mask(low, high, shape=SHAPE) -> np.ndarray:
    """Ones from ``low`` to ``high`` (inclusive) along each axis."""
    mask = np.zeros((1, *shape), dtype=np.uint8)
    mask[(0, *[slice(a, b + 1) for a, b in zip(low, high, strict=True)])] = 1
    return mask


def crop(low, high, roi, shape=SHAPE, seed=0, **settings) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Cropped image and mask, and the crop's first voxel on the scan's grid, told by where the lesion landed."""
    transform = RandCropToLesiond(["image", "label"], roi_size=roi, **settings)
    transform.set_random_state(seed=seed)
    out = transform({"image": torch.tensor(coded_image(shape)), "label": torch.tensor(box_mask(low, high, shape))})
    image, mask = np.asarray(out["image"])[0], np.asarray(out["label"])[0]
    start = [int(a - np.nonzero(mask)[axis].min()) for axis, a in enumerate(low)]
    return image, mask, start


# ----------------------------------------------------------------------------------------- the crop


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("low", "high"), [((8, 7, 5), (11, 9, 6)), ((0, 0, 0), (2, 3, 1)), ((17, 15, 10), (19, 17, 11))]
)
def test_crop_holds_the_whole_lesion_and_repeats_the_scan_s_border(low, high, seed):
    roi = (10, 12, 8)
    image, mask, start = crop(low, high, roi, seed=seed)
    assert image.shape == mask.shape == roi
    assert mask.sum() == box_mask(low, high).sum()
    index = [np.clip(np.arange(size) + first, 0, n - 1) for size, first, n in zip(roi, start, SHAPE, strict=True)]
    np.testing.assert_array_equal(image, coded_image()[0][np.ix_(*index)])
    expected = np.zeros(roi, dtype=np.uint8)
    expected[tuple(slice(a - s, b + 1 - s) for a, b, s in zip(low, high, start, strict=True))] = 1
    np.testing.assert_array_equal(mask, expected)


def test_scan_smaller_than_the_crop_is_padded_on_every_side():
    shape, roi = (6, 5, 4), (10, 10, 10)
    image, mask, start = crop((2, 2, 1), (3, 3, 2), roi, shape=shape)
    index = [np.clip(np.arange(10) + first, 0, n - 1) for first, n in zip(start, shape, strict=True)]
    np.testing.assert_array_equal(image, coded_image(shape)[0][np.ix_(*index)])
    assert mask.sum() == 8


def test_lesion_at_the_border_is_not_repeated_into_the_padding():
    _, mask, _ = crop((0, 0, 0), (1, 17, 3), (16, 30, 8), random_centre=False)
    assert mask.sum() == 2 * 18 * 4


def test_no_mask_is_repeated_into_the_padding_whichever_of_them_the_crop_follows():
    masks = torch.zeros(2, 6, 6, 4)
    masks[0, 2:4, 2:4, 3] = masks[1, 2:4, 2:4, 0] = 1
    region = torch.zeros(1, 6, 6, 4)
    region[:, 1:5, 1:5] = 1
    image = torch.tensor(coded_image((6, 6, 4)))
    transform = RandCropToLesiond(["image", "label", "region"], (6, 6, 10), mask_key="region", random_centre=False)
    out = transform({"image": image, "label": masks, "region": region})
    assert torch.equal(torch.as_tensor(out["label"])[..., 3:7], masks)
    assert out["label"].sum() == masks.sum()
    assert out["region"].sum() == region.sum()
    index = np.clip(np.arange(10) - 3, 0, 3)
    np.testing.assert_array_equal(out["image"], image[..., index])


def test_every_place_that_keeps_the_margin_occurs_and_no_other():
    """Lesion of 4 voxels at 8..11, crop of 12, margin 2: it begins within 2 (11 + 2 + 1 - 12) and 6 (8 - 2)."""
    starts = [crop((8, 7, 4), (11, 10, 7), (12, 12, 8), seed=seed)[2] for seed in range(120)]
    assert {start[0] for start in starts} == {2, 3, 4, 5, 6}
    assert {start[1] for start in starts} == {1, 2, 3, 4, 5}
    assert {start[2] for start in starts} == {2}
    assert len({tuple(start) for start in starts}) == 25


def test_margin_shrinks_where_the_crop_has_no_room_for_it():
    starts = {tuple(crop((8, 7, 4), (11, 10, 7), (6, 4, 5), seed=seed)[2]) for seed in range(60)}
    assert {start[0] for start in starts} == {7}
    assert {start[1] for start in starts} == {7}
    assert {start[2] for start in starts} == {3, 4}


def test_lesion_longer_than_the_crop_fills_it():
    low, high, roi = (2, 7, 4), (17, 8, 6), (6, 8, 8)
    first_voxels = set()
    for seed in range(60):
        transform = RandCropToLesiond(["image", "label"], roi_size=roi)
        transform.set_random_state(seed=seed)
        out = transform({"image": torch.tensor(coded_image()), "label": torch.tensor(box_mask(low, high))})
        image, mask = np.asarray(out["image"])[0], np.asarray(out["label"])[0]
        assert mask.shape == roi
        assert mask.any(axis=(1, 2)).all()
        assert mask.sum() == 6 * 2 * 3
        first_voxels.add(int(image[0, 0, 0] // 10000))
    assert first_voxels == set(range(2, 13))


def test_lesion_is_in_the_middle_without_randomness():
    centred = [crop((8, 7, 5), (11, 9, 6), (10, 11, 8), seed=seed, random_centre=False)[2] for seed in range(4)]
    assert centred == [[5, 3, 2]] * 4


def test_all_classes_are_held():
    mask = np.concatenate([box_mask((3, 3, 3), (4, 4, 4)), box_mask((9, 10, 6), (10, 11, 7))])
    for seed in range(10):
        transform = RandCropToLesiond(["image", "label"], roi_size=(10, 10, 6))
        transform.set_random_state(seed=seed)
        out = transform({"image": torch.tensor(coded_image()), "label": torch.tensor(mask)})
        assert np.asarray(out["label"]).sum(axis=(1, 2, 3)).tolist() == [8, 8]


def test_scan_without_lesion_is_cropped_around_its_middle():
    transform = RandCropToLesiond(["image", "label"], roi_size=(6, 6, 6), random_centre=False)
    out = transform({"image": torch.tensor(coded_image()), "label": torch.zeros(1, *SHAPE)})
    middle = np.asarray(out["image"])[0, 3, 3, 3]
    assert abs(middle // 10000 - SHAPE[0] / 2) <= 1


def test_same_random_state_gives_the_same_crop():
    starts = [crop((8, 7, 5), (11, 9, 6), (14, 14, 10), seed=seed)[2] for seed in (5, 5, 6, 7)]
    assert starts[0] == starts[1]
    assert len({tuple(start) for start in starts}) > 1


def test_input_is_left_as_it_was():
    image, mask = torch.tensor(coded_image()), torch.tensor(box_mask((8, 7, 5), (11, 9, 6)))
    data = {"image": image, "label": mask, "other": 1}
    out = RandCropToLesiond(["image", "label"], roi_size=(30, 8, 8))(data)
    assert torch.equal(image, torch.tensor(coded_image()))
    assert data["image"] is image
    assert out["other"] == 1


@pytest.mark.parametrize("low", [(0, 1, 0), (9, 9, 5)])
def test_every_voxel_keeps_its_place_in_the_world(low):
    """Also where the crop begins outside the scan."""
    spacing = np.array([0.7, 0.8, 1.5])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-40.0, 12.0, 7.0]
    high = [a + 2 for a in low]
    transform = RandCropToLesiond(["image", "label"], roi_size=(12, 12, 8))
    transform.set_random_state(seed=3)
    out = transform(
        {
            "image": MetaTensor(coded_image(), affine=torch.tensor(affine)),
            "label": MetaTensor(box_mask(low, high), affine=torch.tensor(affine)),
        }
    )
    first = np.argwhere(np.asarray(out["label"])[0])[0]
    for key in ("image", "label"):
        world = np.asarray(out[key].affine) @ [*first, 1]
        np.testing.assert_allclose(world[:3], affine[:3, 3] + spacing * low, atol=1e-5)
    code = np.asarray(out["image"])[(0, *first)]
    assert code == low[0] * 10000 + low[1] * 100 + low[2]


# ----------------------------------------------------------------------------------------- the histogram


def test_histogram_of_every_class_is_written_beside_the_image():
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, size=(1, 8, 7, 6)).astype(np.float32)
    masks = np.stack([rng.uniform(size=image.shape[1:]) < share for share in (0.2, 0.5)]).astype(np.uint8)
    out = LesionHistogramd()({"image": MetaTensor(image), "label": MetaTensor(masks)})
    expected = [np.histogram(image[0][mask > 0], bins=16, range=(-1, 1))[0] / mask.sum() for mask in masks]
    assert out["histogram"].shape == (2, 16)
    assert out["histogram"].dtype == torch.float32
    np.testing.assert_allclose(np.asarray(out["histogram"]), expected, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(out["image"]), image)


def test_histogram_keys_and_bins_can_be_chosen():
    data = {"ct": torch.full((1, 3, 3, 3), 0.9), "lesion": torch.ones(1, 3, 3, 3)}
    out = LesionHistogramd("ct", mask_key="lesion", histogram_key="texture", num_bins=4)(data)
    assert torch.equal(torch.as_tensor(out["texture"]), torch.tensor([[0.0, 0.0, 0.0, 1.0]]))


# ----------------------------------------------------------------------------------------- condition dropout


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_condition_is_dropped_as_often_as_asked_and_then_wholly(prob):
    drop = RandDropConditiond(prob=prob)
    drop.set_random_state(seed=0)
    condition, dropped = torch.full((2, 16), 1 / 16), 0
    for _ in range(500):
        out = drop({"histogram": condition, "image": 5})
        assert out["image"] == 5
        assert torch.equal(out["histogram"], condition) or not out["histogram"].any()
        assert out["histogram"].shape == (2, 16)
        dropped += not out["histogram"].any()
    assert abs(dropped - 500 * prob) <= 4 * np.sqrt(500 * prob * (1 - prob))
    assert condition.all()


def test_dropout_follows_its_random_state():
    condition = torch.ones(1, 16)

    def pattern(seed):
        drop = RandDropConditiond(prob=0.5)
        drop.set_random_state(seed=seed)
        return [bool(drop({"histogram": condition})["histogram"].any()) for _ in range(20)]

    assert pattern(1) == pattern(1)
    assert any(pattern(a) != pattern(b) for a, b in itertools.combinations(range(3), 2))
