"""What is asked of the network: the lesion only (Eq. 4 and 6), or, by methods to compare with, the whole image."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["GlobalDiffusionLoss", "LesionFocusedLoss"]


class LesionFocusedLoss(nn.Module):
    """Sum over lesion classes i of ``M_f^(i) ||target - prediction||^(i)`` (Eq. 6; Eq. 4 for one class).

    Called as ``loss(pred, target)`` by MONAI's SupervisedTrainer. The target carries what is to be predicted (the
    noise of Eq. 4, or the velocity) in its first n channels and one mask per class in the next n.

    Args:
        norm: ``l1`` (absolute error, what the published code uses) or ``l2`` (squared error, as Eq. 4 is written).
        reduction: ``lesion`` averages over the lesion's voxels for every class and sample, then over the samples
            that have the class, then sums the classes: a small lesion counts as much as a large one, and a class
            absent from a sample contributes nothing. ``voxel`` is the published reduction: the masked error averaged
            over ALL voxels, summed over the classes.

    Shapes:
        pred: (N, n, X, Y, Z); target: (N, 2n, X, Y, Z) with masks in {0, 1}; returns a scalar.

    Under torch.distributed, ``lesion`` divides by the number of samples with the class over all processes, so that
    the gradients averaged by DistributedDataParallel are those of one process with the whole batch.

    Raises:
        ValueError: for an unknown norm or reduction, or a target without one mask per predicted channel.
    """

    def __init__(self, norm: str = "l1", reduction: str = "lesion") -> None:
        super().__init__()
        if reduction not in ("lesion", "voxel"):
            raise ValueError(f"reduction must be lesion or voxel, got {reduction!r}.")
        self.norm = _checked(norm)
        self.reduction = reduction

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        error, mask = _voxel_error(pred, target, self.norm)
        error = error * mask
        if self.reduction == "voxel":
            return error.mean(dim=(0, *range(2, error.ndim))).sum()
        space = tuple(range(2, error.ndim))
        voxels = mask.float().sum(dim=space)
        per_lesion = error.sum(dim=space) / voxels.clamp(min=1)
        samples_with_class = (voxels > 0).sum(dim=0).float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(samples_with_class)
            samples_with_class /= dist.get_world_size()
        present = samples_with_class > 0
        return torch.where(present, per_lesion.sum(dim=0) / samples_with_class.where(present, 1), 0).sum()


class GlobalDiffusionLoss(nn.Module):
    """The loss of an ordinary image diffusion model: ``||target - prediction||`` averaged over ALL voxels.

    What RePaint and Cond-Diffusion are trained with (section 4.1; Ho et al. 2020, Eq. 14: weight 1 at every t). The
    masks that the target carries for :class:`LesionFocusedLoss` play no part.

    Args:
        norm: ``l1`` (absolute error, as :class:`LesionFocusedLoss`) or ``l2`` (squared error).

    Shapes:
        pred: (N, n, X, Y, Z); target: (N, 2n, X, Y, Z) with the masks in its last n channels; returns a scalar.

    Raises:
        ValueError: for an unknown norm, or a target without one mask per predicted channel.
    """

    def __init__(self, norm: str = "l1") -> None:
        super().__init__()
        self.norm = _checked(norm)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return _voxel_error(pred, target, self.norm)[0].mean()


def _checked(norm: str) -> str:
    if norm not in ("l1", "l2"):
        raise ValueError(f"norm must be l1 or l2, got {norm!r}.")
    return norm


def _voxel_error(pred: Tensor, target: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Error of each voxel (N, n, X, Y, Z) float32, and the masks that the target (N, 2n, ...) carries, of its shape."""
    n = pred.shape[1]
    if target.shape != (pred.shape[0], 2 * n, *pred.shape[2:]):
        raise ValueError(
            f"target must hold {n} target and {n} mask channels on the prediction's grid, "
            f"got shapes pred {tuple(pred.shape)} and target {tuple(target.shape)}."
        )
    error = (target[:, :n] - pred).float()
    return error.abs() if norm == "l1" else error.square(), target[:, n:]
