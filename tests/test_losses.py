"""The lesion-focused loss (Eq. 4 and 6), and the global loss of the methods it is compared with."""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from custom_components.losses import GlobalDiffusionLoss, LesionFocusedLoss

GRID = (6, 5, 4)


def example(classes: int = 1, samples: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, wanted and masks; the lesions have very different sizes."""
    rng = np.random.default_rng(seed)
    pred, wanted = rng.normal(size=(2, samples, classes, *GRID)).astype(np.float32)
    share = rng.uniform(0.02, 0.6, size=(samples, classes, 1, 1, 1))
    mask = (rng.uniform(size=pred.shape) < share).astype(np.float32)
    mask[:, :, 0, 0, 0] = 1
    return pred, wanted, mask


def as_tensors(pred, wanted, mask):
    return torch.tensor(pred), torch.tensor(np.concatenate([wanted, mask], axis=1))


def error_of(norm, pred, wanted):
    difference = wanted.astype(np.float64) - pred.astype(np.float64)
    return np.abs(difference) if norm == "l1" else difference**2


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_lesion_reduction_averages_voxels_then_samples_and_sums_classes(norm, classes):
    pred, wanted, mask = example(classes)
    error = error_of(norm, pred, wanted)
    expected = 0.0
    for i in range(classes):
        lesions = [error[k, i][mask[k, i] > 0].mean() for k in range(len(pred)) if mask[k, i].any()]
        expected += np.mean(lesions)
    assert LesionFocusedLoss(norm)(*as_tensors(pred, wanted, mask)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("classes", [1, 2])
def test_voxel_reduction_is_the_masked_error_over_all_voxels_summed_over_classes(norm, classes):
    pred, wanted, mask = example(classes)
    error = error_of(norm, pred, wanted) * mask
    expected = sum(error[:, i].sum() / error[:, i].size for i in range(classes))
    got = LesionFocusedLoss(norm, "voxel")(*as_tensors(pred, wanted, mask))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_small_lesion_counts_as_much_as_a_large_one():
    pred = torch.zeros(2, 1, *GRID, requires_grad=True)
    mask = torch.zeros(2, 1, *GRID)
    mask[0, 0, 0, 0, 0] = 1
    mask[1] = 1
    wanted = torch.ones(2, 1, *GRID)
    LesionFocusedLoss("l1")(pred, torch.cat([wanted, mask], dim=1)).backward()
    small, large = pred.grad.abs().sum(dim=(1, 2, 3, 4)).tolist()
    assert small == pytest.approx(0.5)
    assert large == pytest.approx(0.5)


def test_voxel_reduction_lets_a_large_lesion_count_more():
    pred = torch.zeros(2, 1, *GRID, requires_grad=True)
    mask = torch.zeros(2, 1, *GRID)
    mask[0, 0, 0, 0, 0] = 1
    mask[1] = 1
    LesionFocusedLoss("l1", "voxel")(pred, torch.cat([torch.ones_like(mask), mask], dim=1)).backward()
    small, large = pred.grad.abs().sum(dim=(1, 2, 3, 4)).tolist()
    assert large == pytest.approx(small * np.prod(GRID), rel=1e-5)


def test_class_absent_from_a_sample_is_left_out_of_that_class_average():
    pred, wanted, mask = example(classes=2)
    mask[0, 1] = 0
    with_absent = LesionFocusedLoss("l1")(*as_tensors(pred, wanted, mask)).item()
    error = error_of("l1", pred, wanted)
    first = np.mean([error[k, 0][mask[k, 0] > 0].mean() for k in range(3)])
    second = np.mean([error[k, 1][mask[k, 1] > 0].mean() for k in (1, 2)])
    assert with_absent == pytest.approx(first + second, rel=1e-5)


@pytest.mark.parametrize("reduction", ["lesion", "voxel"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_class_absent_everywhere_gives_zero_loss_and_zero_gradient_never_nan(norm, reduction):
    pred, wanted, mask = example(classes=2)
    mask[:, 1] = 0
    prediction, target = as_tensors(pred, wanted, mask)
    prediction.requires_grad_()
    loss = LesionFocusedLoss(norm, reduction)(prediction, target)
    loss.backward()
    alone = LesionFocusedLoss(norm, reduction)(*as_tensors(pred[:, :1], wanted[:, :1], mask[:, :1]))
    assert loss.item() == pytest.approx(alone.item(), rel=1e-6)
    assert torch.isfinite(prediction.grad).all()
    assert (prediction.grad[:, 1] == 0).all()


def test_batch_without_any_lesion_gives_zero_and_a_zero_gradient():
    prediction = torch.ones(2, 1, *GRID, requires_grad=True)
    loss = LesionFocusedLoss()(prediction, torch.zeros(2, 2, *GRID))
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


@pytest.mark.parametrize("reduction", ["lesion", "voxel"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_gradient_is_zero_outside_the_mask_and_not_inside(norm, reduction):
    pred, wanted, mask = example(classes=2)
    prediction, target = as_tensors(pred, wanted, mask)
    prediction.requires_grad_()
    LesionFocusedLoss(norm, reduction)(prediction, target).backward()
    lesion = torch.tensor(mask) > 0
    assert (prediction.grad[~lesion] == 0).all()
    assert (prediction.grad[lesion] != 0).all()


def test_half_precision_prediction_gives_a_float32_loss_of_full_precision():
    pred, wanted, mask = example()
    prediction, target = as_tensors(pred, wanted, mask)
    rounded = prediction.bfloat16()
    error = error_of("l1", rounded.float().numpy(), wanted)
    expected = np.mean([error[k][mask[k] > 0].mean() for k in range(3)])
    loss = LesionFocusedLoss()(rounded, target)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("pred_shape", "target_shape"),
    [
        ((1, 1, 4, 4, 4), (1, 1, 4, 4, 4)),
        ((1, 2, 4, 4, 4), (1, 3, 4, 4, 4)),
        ((1, 1, 4, 4, 4), (1, 2, 4, 4, 5)),
        ((1, 1, 4, 4, 4), (1, 2, 4, 4)),
    ],
)
def test_target_that_does_not_fit_is_refused_with_both_shapes(pred_shape, target_shape):
    with pytest.raises(ValueError) as error:
        LesionFocusedLoss()(torch.zeros(pred_shape), torch.zeros(target_shape))
    assert str(pred_shape) in str(error.value)
    assert str(target_shape) in str(error.value)


def test_target_of_another_batch_size_is_refused():
    with pytest.raises(ValueError):
        LesionFocusedLoss()(torch.zeros(2, 1, 4, 4, 4), torch.ones(1, 2, 4, 4, 4))


@pytest.mark.parametrize(("arguments", "named"), [(("l3",), "norm"), (("l1", "mean"), "reduction")])
def test_unknown_options_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        LesionFocusedLoss(*arguments)


# ----------------------------------------------------------------------------------------- two processes


def uneven_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Four samples of two classes. The second class is in sample 0 only, so the second half of the batch lacks it."""
    pred, wanted, mask = example(classes=2, samples=4, seed=5)
    mask[1:, 1] = 0
    mask[3, 0] = 0
    image = torch.tensor(pred[:, :1])
    return image, torch.tensor(np.concatenate([wanted, mask], axis=1))


def tiny_network() -> nn.Conv3d:
    torch.manual_seed(0)
    return nn.Conv3d(1, 2, kernel_size=1)


def gradients_of_one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/rendezvous", timeout=timedelta(seconds=60), rank=rank, world_size=2
    )
    network = tiny_network()
    image, target = (part[2 * rank : 2 * rank + 2] for part in uneven_batch())
    LesionFocusedLoss("l2")(network(image), target).backward()
    for parameter in network.parameters():  # what DistributedDataParallel does
        dist.all_reduce(parameter.grad)
        parameter.grad /= 2
    torch.save([parameter.grad for parameter in network.parameters()], f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_gradients_of_two_processes_equal_those_of_one_with_the_whole_batch(tmp_path):
    """A real gloo group, with a class that only the first process has."""
    network = tiny_network()
    image, target = uneven_batch()
    LesionFocusedLoss("l2")(network(image), target).backward()
    # A fork takes a tenth of a second, a new interpreter five; but autograd survives a fork on the CPU only.
    method = "spawn" if torch.cuda.is_available() or sys.platform != "linux" else "fork"
    mp.start_processes(gradients_of_one_rank, args=(str(tmp_path),), nprocs=2, start_method=method)
    for rank in range(2):
        averaged = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for got, parameter in zip(averaged, network.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad, rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------- the global loss


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("classes", [1, 2])
def test_global_loss_averages_the_error_over_every_voxel_whatever_the_masks(norm, classes):
    pred, wanted, mask = example(classes)
    expected = error_of(norm, pred, wanted).sum() / pred.size
    for masks in (mask, np.zeros_like(mask), np.ones_like(mask)):
        got = GlobalDiffusionLoss(norm)(*as_tensors(pred, wanted, masks))
        assert got.item() == pytest.approx(expected, rel=1e-5)


def test_global_loss_asks_about_voxels_outside_the_lesion_too():
    pred, wanted, mask = example()
    pred, target = as_tensors(pred, wanted, mask)
    pred.requires_grad_()
    GlobalDiffusionLoss()(pred, target).backward()
    assert (pred.grad[torch.as_tensor(mask) == 0] != 0).all()


def test_global_loss_refuses_unknown_norms_and_targets_without_masks():
    with pytest.raises(ValueError, match="norm must be l1 or l2"):
        GlobalDiffusionLoss("l3")
    with pytest.raises(ValueError, match="target and 1 mask channels"):
        GlobalDiffusionLoss()(torch.zeros(1, 1, *GRID), torch.zeros(1, 1, *GRID))
