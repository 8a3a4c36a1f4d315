"""What the segmentation bundle is made of, each part against an independent calculation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundle_runs import save_nifti
from monai.data import MetaTensor
from monai.losses import DiceCELoss
from monai.transforms import Compose, Orientationd, Spacingd
from scipy import ndimage
from segmentation_runs import ball

from custom_components.case_lists import mix_cases
from custom_components.cyclic_sampler import CyclicSampler, most_visits
from custom_components.datasets import ReproducibleDataset
from custom_components.errors import InputError
from custom_components.handlers import MissedDice
from custom_components.labels import LesionLabels
from custom_components.metrics import dice, mean_and_spread, surface_dice
from custom_components.mirroring import MirroringInferer
from custom_components.networks import SwinSegmenter, check_patch_size
from custom_components.segmentation_loss import SegmentationLoss
from custom_components.transforms import LesionClassesd, LoadScand, RandCropForegroundd, SegmentationOnScand

CLASSES = LesionLabels({"mi": 3, "pmo": 4})

# ------------------------------------------------------------------------------------------- measures


def border_share(a: np.ndarray, b: np.ndarray, spacing, tolerance: float) -> float:
    """Surface Dice from distances between all pairs of border voxels."""
    borders = [np.argwhere(m & ~ndimage.binary_erosion(m)) * np.asarray(spacing) for m in (a, b)]
    distances = np.linalg.norm(borders[0][:, None] - borders[1][None], axis=-1)
    near = (distances.min(axis=1) <= tolerance).sum() + (distances.min(axis=0) <= tolerance).sum()
    return near / sum(distances.shape)


def test_dice_and_surface_dice_of_shifted_balls():
    a, b = ball((20, 20, 12), (9, 9, 6), 4), ball((20, 20, 12), (11, 10, 7), 4)
    spacing = (1.0, 1.5, 3.0)
    assert dice(a, b) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-6)
    for tolerance in (0.0, 1.0, 2.0, 3.5):
        assert surface_dice(a, b, spacing, tolerance) == pytest.approx(border_share(a, b, spacing, tolerance), abs=1e-6)
    assert surface_dice(a, b, (1, 1, 1), 2.0) != surface_dice(a, b, spacing, 2.0)


def test_empty_masks_score_nothing_or_zero():
    full, empty = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    for measure in (dice, lambda a, b: surface_dice(a, b, (1, 1, 1), 1.0)):
        assert measure(full, empty) == measure(empty, full) == 0
        assert np.isnan(measure(empty, empty))
        assert measure(full, full) == 1


def test_mean_leaves_out_what_says_nothing():
    assert mean_and_spread([1.0, float("nan"), 0.0]) == {"mean": 0.5, "sd": pytest.approx(0.7071068), "n": 2}
    assert mean_and_spread([0.25]) == {"mean": 0.25, "sd": 0.0, "n": 1}
    assert mean_and_spread([float("nan")]) == {"mean": None, "sd": None, "n": 0}


def test_missed_dice_is_over_classes_that_are_there():
    label = torch.zeros(1, 1, 4, 4, 4)
    label[..., :2, :] = 1
    logits = torch.zeros(1, 3, 4, 4, 4)
    logits[:, 1, :, :, :2] = 5.0  # half of class 1 is found, and as much besides
    logits[:, 0] += 1
    metric = MissedDice(3)
    metric.update(metric._output_transform({"pred": logits, "label": label}))
    assert metric.compute() == pytest.approx(0.5, abs=1e-6)


# ------------------------------------------------------------------------------------------- loss


def test_deep_supervision_weighs_levels_one_half_a_quarter():
    torch.manual_seed(0)
    logits, label = torch.randn(2, 3, 2, 4, 4, 4), torch.randint(0, 2, (2, 1, 4, 4, 4)).float()
    single = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    expected = sum(w * single(logits[:, i], label) for i, w in enumerate((4 / 7, 2 / 7, 1 / 7)))
    assert SegmentationLoss()(logits, label) == pytest.approx(float(expected), rel=1e-5)
    assert SegmentationLoss()(logits[:, 0], label) == pytest.approx(float(single(logits[:, 0], label)), rel=1e-5)


# ------------------------------------------------------------------------------------------- epochs


def cases_of(sampler: CyclicSampler, cases: int, epochs) -> list[list[int]]:
    drawn = []
    for epoch in epochs:
        sampler.dataset.set_epoch(epoch)
        drawn.append([index % cases for index in sampler])
    return drawn


def dataset(cases: int, repeats: int) -> ReproducibleDataset:
    return ReproducibleDataset([{"x": n} for n in range(cases)], lambda d: d, repeats=repeats, progress=False)


def test_every_case_comes_equally_often_though_an_epoch_is_no_round():
    sampler = CyclicSampler(dataset(5, 2), 3, range(5), seed=1)
    epochs = cases_of(sampler, 5, (1, 2, 3, 4, 5))
    assert [len(epoch) for epoch in epochs] == [3] * 5
    assert sorted(case for epoch in epochs for case in epoch) == sorted(list(range(5)) * 3)
    assert cases_of(sampler, 5, (4,)) == [epochs[3]]


def test_case_that_comes_again_within_an_epoch_is_drawn_anew():
    data = dataset(2, 5)
    data.set_epoch(1)
    drawn = list(CyclicSampler(data, 8, range(2)))
    assert len(set(drawn)) == 8
    assert len({data[index]["seed"] for index in drawn}) == 8


def test_processes_share_an_epoch():
    alone = list(CyclicSampler(dataset(4, 4), 6, range(4)))
    parts = [list(CyclicSampler(dataset(4, 4), 3, range(4), num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [*zip(*parts, strict=True)] == [*zip(alone[::2], alone[1::2], strict=True)]


def test_repeated_places_come_as_often_as_they_are_named():
    (epoch,) = cases_of(CyclicSampler(dataset(2, 9), 8, [0, 1, 1, 1]), 2, (1,))
    assert (epoch.count(0), epoch.count(1)) == (2, 6)


@pytest.mark.parametrize(("repeats", "samples"), [([5, 5, *[1] * 18], 100), ([1, 1, 1], 7), ([100, 1], 3)])
def test_data_set_holds_a_draw_for_every_visit_of_a_repeated_case(repeats, samples):
    places = mix_cases([{"repeats": count} for count in repeats])
    data = dataset(len(repeats), most_visits(places, samples))
    for epoch in (1, 2, 3):
        data.set_epoch(epoch)
        assert len({data[index]["seed"] for index in CyclicSampler(data, samples, places)}) == samples


# ------------------------------------------------------------------------------------------- transforms


def test_patches_hold_the_rare_class_as_often_as_the_common_one():
    label = torch.zeros(1, 40, 40, 40)
    label[0, 2:12, 2:12, 2:12] = 1
    label[0, 37, 37, 37] = 2
    crop = RandCropForegroundd(["image", "label"], (8, 8, 8), prob=1.0)
    crop.set_random_state(0)
    found = [crop({"image": label.clone(), "label": label})["label"] for _ in range(60)]
    assert all(part.shape == (1, 8, 8, 8) and part.any() for part in found)
    assert 15 < sum(bool((part == 2).any()) for part in found) < 45


def test_patches_of_a_case_without_lesion_lie_anywhere():
    crop = RandCropForegroundd(["image", "label"], (8, 8, 8), prob=1.0)
    crop.set_random_state(0)
    data = {"image": torch.arange(20.0**3).view(1, 20, 20, 20), "label": torch.zeros(1, 20, 20, 20)}
    starts = {float(crop(data)["image"][0, 0, 0, 0]) for _ in range(20)}
    assert len(starts) > 15


def test_values_that_are_no_lesion_class_are_background():
    label = torch.tensor([0, 1, 2, 3, 4, 9.0]).view(1, 6, 1, 1)
    out = LesionClassesd(labels=CLASSES)({"label": label})["label"]
    assert out.flatten().tolist() == [0, 0, 0, 1, 2, 0]


def turned_affine() -> np.ndarray:
    """Voxels of 0.9 x 1.3 x 2.5 mm, the first two axes swapped and one flipped, 12 degrees askew."""
    angle = np.deg2rad(12)
    askew = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    axes = askew @ np.array([[0, -1.3, 0], [0.9, 0, 0], [0, 0, 2.5]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, (12, -30, 5)
    return affine


def test_prediction_returns_to_an_oblique_anisotropic_grid(tmp_path):
    affine = turned_affine()
    label = ball((44, 34, 18), (25, 14, 8), 6).astype(np.uint8) * 4
    save_nifti(tmp_path / "ct.nii.gz", label.astype(np.int16) * 100, affine)
    load = Compose(
        [
            LoadScand(keys="image"),
            Orientationd(keys="image", axcodes="RAS", labels=None),
            Spacingd(keys="image", pixdim=(1, 1, 1), mode="bilinear"),
        ]
    )
    image = load({"image": str(tmp_path / "ct.nii.gz")})["image"]
    assert image.shape[1:] != label.shape
    share = image[0].as_tensor() / 400  # a network that is as sure of class pmo as the voxel is filled
    logits = torch.stack([1 - share, torch.full_like(share, -1), share]) * 50
    found = SegmentationOnScand(labels=CLASSES)({"image": image, "pred": logits})["pred"]
    assert isinstance(found, MetaTensor)
    np.testing.assert_allclose(found.affine.numpy(), affine, atol=1e-6)
    assert found.shape[1:] == label.shape
    assert set(np.unique(found)) == {0, 4}
    assert dice(found.numpy()[0] == 4, label == 4) > 0.93


def test_label_on_another_grid_is_refused(tmp_path):
    image = save_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.int16))
    label = save_nifti(tmp_path / "b.nii.gz", np.zeros((4, 4, 5), np.uint8))
    with pytest.raises(InputError, match=r"label .*b.nii.gz has shape"):
        LoadScand()({"image": str(image), "label": str(label)})


# ------------------------------------------------------------------------------------------- networks, inferers


def test_slices_see_their_neighbours_and_no_further():
    torch.manual_seed(0)
    network = SwinSegmenter(1, 2, 12, in_plane=True, depths=[1] * 4, num_heads=[1] * 4, window_size=4).eval()
    x = torch.randn(1, 1, 40, 24, 5)
    with torch.no_grad():
        out, moved = network(x), network(x + torch.tensor([0, 0, 0, 0, 1.0]))
    assert out.shape == (1, 2, 40, 24, 5)
    changed = [(out[..., z] - moved[..., z]).abs().max() > 1e-6 for z in range(5)]
    assert changed == [False, False, False, True, True]


def test_patch_that_the_network_does_not_take_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 2, 2), torch.nn.ConvTranspose3d(2, 2, 2, 2))
    check_patch_size(network, [4, 4, 4])
    with pytest.raises(InputError, match=r"spatial_size \[4, 4, 5\] becomes \[4, 4, 4\]"):
        check_patch_size(network, [4, 4, 5])


def test_mirroring_averages_over_every_turn_and_undoes_it():
    x = torch.randn(1, 1, 3, 4, 5)
    ramp = torch.arange(3.0).view(1, 1, 3, 1, 1)

    def apply(inputs, network):
        return network(inputs)

    mirrored = MirroringInferer(apply, [0, 2])(x, lambda inputs: inputs + ramp)
    torch.testing.assert_close(mirrored, x + 1)
    with pytest.raises(InputError, match="mirror_axes"):
        MirroringInferer(apply, [3])
