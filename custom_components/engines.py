"""What MONAI's SupervisedTrainer and SupervisedEvaluator need beyond their own parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor

from .combiners import MultiChannelCombiner
from .errors import as_flag
from .schedules import NoiseSchedule
from .seeds import derive_seed

__all__ = ["LesionDiffusionPrepareBatch", "LesionSamplingPrepareBatch"]


def stack_inputs(
    batch: Mapping[str, Any], keys: Sequence[str], device: torch.device | str | None, non_blocking: bool
) -> Tensor:
    """A batch's volumes as the channels of one tensor (N, C, X, Y, Z) float32, the inferer's input."""
    parts = [torch.as_tensor(batch[key]).float() for key in keys]
    return torch.cat(parts, dim=1).to(device, non_blocking=non_blocking)


def draw_noise(
    seeds: Sequence[int], like: Tensor, num_train_timesteps: int, device: torch.device | str | None
) -> tuple[Tensor, Tensor]:
    """Noise of the shape of ``like`` (N, ...) and timesteps (N,) for a training step, each sample by its own seed."""
    generators = [torch.Generator().manual_seed(derive_seed(int(seed), "diffusion")) for seed in seeds]
    timesteps = torch.cat([torch.randint(num_train_timesteps, (1,), generator=g) for g in generators]).to(device)
    return torch.stack([torch.randn(like.shape[1:], generator=g) for g in generators]).to(like), timesteps


class LesionDiffusionPrepareBatch(PrepareBatch):
    """A batch for one training step: draws t and noise, builds the target that :class:`LesionFocusedLoss` takes.

    Each sample draws from its own generator, seeded by the batch's ``seed``: the draws do not depend on the batch's
    composition, on workers or on the number of processes, and validation sees the same noise and t every time.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        prediction_type: what the network predicts; the target follows.
        one_image: all classes lie in one image, drawn in one channel, and noise, target and the mask that the target
            carries (the classes' union) have one channel too; see
            :class:`~custom_components.inferers.LesionInpaintingInferer`.

    The batch holds ``image`` (N, 1, X, Y, Z) in [-1, 1], ``label`` (N, n, X, Y, Z) in {0, 1}, ``histogram``
    (N, n, 16) and ``seed`` (N,).
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 1,
        prediction_type: str = "v_prediction",
        one_image: bool = False,
    ) -> None:
        self.schedule = schedule
        self.combiner = MultiChannelCombiner(num_classes)
        self.one_image = as_flag(one_image, "one_image")
        self.prediction_type = prediction_type

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Tensor]]:
        """Returns inputs (N, 1 + n, ...), target (N, 2n or 2, ...), (), and noise, timesteps and condition."""
        inputs = stack_inputs(batchdata, ("image", "label"), device, non_blocking)
        image, masks = self.combiner.split(inputs)
        if self.one_image:
            masks = masks.amax(dim=1, keepdim=True)
        noise, timesteps = draw_noise(batchdata["seed"], masks, self.schedule.num_train_timesteps, device)
        x_0 = image.expand_as(masks)
        target = self.schedule.training_target(x_0, noise, timesteps, self.prediction_type)
        condition = torch.as_tensor(batchdata["histogram"]).to(inputs)
        return (
            inputs,
            torch.cat([target, masks], dim=1),
            (),
            {"noise": noise, "timesteps": timesteps, "condition": condition},
        )


class LesionSamplingPrepareBatch(PrepareBatch):
    """A batch to paint: image and masks as input, the requested histograms and the lesions' seeds for the inferer."""

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Returns inputs (N, 1 + n, ...), the image (N, 1, ...) as target, (), and condition, seeds."""
        inputs = stack_inputs(batchdata, ("image", "label"), device, non_blocking)
        condition = torch.as_tensor(batchdata["histogram"]).to(inputs)
        seeds = [int(seed) for seed in batchdata["seed"]]
        return inputs, inputs[:, :1], (), {"condition": condition, "seeds": seeds}
