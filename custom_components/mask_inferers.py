"""Lesion mask diffusion: a lesion is drawn inside the boundary, never outside it (section 3.3, figure 4)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import InputError
from .reverse_process import ReverseProcessInferer
from .schedules import NoiseSchedule

__all__ = ["MaskDiffusionInferer"]


class MaskDiffusionInferer(ReverseProcessInferer):
    """Draws one mask per lesion class, as values in [-1, 1] that are lesion above 0, from a control sphere.

    It is inpainting on a background of -1: at every reverse step everything outside the boundary mask becomes that
    background, noised to the state's level (figure 4). A boundary that is 1 everywhere makes it plain sampling. With
    ``noise``, ``timesteps`` and ``masks`` the call gives the network's prediction for one training step instead.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n, drawn jointly in as many channels.
        context: what the network sees besides x_t. ``sphere``: the control sphere (the paper), network input
            (N, n + 1, ...). ``boundary``: the sphere and the boundary mask, network input (N, n + 2, ...).
        shape_guidance: factor on how far every estimate of x_0 lies from the mean shape, which the network gives for
            the sphere from no information at all (t = T - 1, x_t = 0); 1 leaves it to the network, as in the paper. A
            network that has not seen enough draws shapes too near their mean, large ones above all: pairs of radius
            (mm) and factor, interpolated over the logarithm of the radius, take a factor for each size.
        radius_mm: of the control spheres, used where the call does not tell their radii.
        others: see :class:`~custom_components.reverse_process.ReverseProcessInferer`.

    Raises:
        InputError: for an unknown context, prediction type or AMP type, or steps outside 1..T.
    """

    activity = "drawing"

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 1,
        context: str = "sphere",
        prediction_type: str = "sample",
        shape_guidance: float | Sequence[Sequence[float]] = 1.0,
        radius_mm: float | None = None,
        **others: Any,
    ) -> None:
        super().__init__(schedule, prediction_type, **others)
        if context not in ("sphere", "boundary"):
            raise InputError(f"context must be sphere or boundary, got {context!r}.")
        if num_classes < 1:
            raise InputError(f"num_classes must be at least 1, got {num_classes}.")
        self.num_classes, self.context, self.shape_guidance = num_classes, context, _checked_guidance(shape_guidance)
        self.radius_mm = radius_mm
        self.mean_shape: Tensor | None = None
        self.factor: Tensor | None = None

    def __call__(
        self,
        inputs: Tensor,
        network: nn.Module,
        *,
        masks: Tensor | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        radii_mm: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 2, X, Y, Z): the control sphere, as the network was trained on it, and the boundary mask, above
                0 where a lesion may be.
            network: called as ``network(x, timesteps, context=None)``.
            masks: (N, n, X, Y, Z) in [-1, 1], the real masks x_0; training only.
            noise: (N, n, X, Y, Z), training only.
            timesteps: (N,), training only.
            seeds: one seed per sample.
            radii_mm: of the control spheres; needed where ``shape_guidance`` depends on them.

        Returns:
            (N, n, X, Y, Z). Sampling: x_0, -1 outside the boundary. Training: the network's prediction.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)
        if inputs.shape[1] != 2:
            raise ValueError(
                f"the input must hold the control sphere and the boundary, got {inputs.shape[1]} channels."
            )
        if timesteps is not None:
            if noise is None or masks is None:
                raise ValueError("a training step needs masks and noise as well as timesteps.")
            x_t = self.schedule.add_noise(masks, noise, timesteps)
            return network(self.network_input(x_t, inputs), timesteps, context=None)
        region = (inputs[:, 1:] > 0).expand(-1, self.num_classes, *inputs.shape[2:])
        background = -torch.ones_like(region, dtype=inputs.dtype)
        run = copy.copy(self)  # holds this call's mean shapes and factors
        factors = self.guidance_factors(len(inputs), radii_mm)
        if any(factor != 1 for factor in factors):
            run.factor = torch.tensor(factors).to(inputs).view(-1, 1, 1, 1, 1)
            run.mean_shape = self.find_mean_shape(background, region, network, inputs)
        return run.fill(background, region, network, lambda x_t: self.network_input(x_t, inputs), seeds=seeds)

    def guidance_factors(self, count: int, radii_mm: Sequence[float] | None = None) -> list[float]:
        """The factor of the shape guidance for each of ``count`` samples."""
        if isinstance(self.shape_guidance, float):
            return [self.shape_guidance] * count
        if radii_mm is None and self.radius_mm is not None:
            radii_mm = [self.radius_mm] * count
        if radii_mm is None:
            raise ValueError("a shape_guidance by radius needs the radii of the control spheres.")
        radii, factors = np.transpose(self.shape_guidance)
        return [float(factor) for factor in np.interp(np.log(radii_mm), np.log(radii), factors)]

    @torch.no_grad()
    def find_mean_shape(self, background: Tensor, region: Tensor, network: nn.Module, inputs: Tensor) -> Tensor:
        """The network's estimate of x_0 (N, n, ...) from the sphere alone."""
        last = self.schedule.num_train_timesteps - 1
        nothing = torch.zeros_like(background)
        return self.estimate_x_0(nothing, last, region, network, lambda x_t: self.network_input(x_t, inputs), None)

    def guide(self, x_0: Tensor, region: Tensor, condition: Tensor | None) -> Tensor:
        """Shape guidance."""
        if self.mean_shape is None:
            return x_0
        return self.mean_shape + self.factor * (x_0 - self.mean_shape)

    def network_input(self, x_t: Tensor, inputs: Tensor) -> Tensor:
        """What the network sees of state x_t (N, n, ...) and of sphere and boundary (N, 2, ...)."""
        return torch.cat([x_t, inputs if self.context == "boundary" else inputs[:, :1]], dim=1)


def _checked_guidance(value: Any) -> float | list[list[float]]:
    """A factor, or pairs of radius and factor; InputError for anything else."""
    try:
        pairs = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        pairs = np.zeros(0)
    wanted = pairs.ndim == 0 or (pairs.ndim == 2 and pairs.shape[1] == 2 and (np.diff(pairs[:, 0]) > 0).all())
    if not wanted or not np.isfinite(pairs).all() or not (pairs > 0).all():
        raise InputError(
            f"shape_guidance must be above 0, or pairs [radius_mm, factor] with rising radii, got {value!r}."
        )
    return pairs.tolist()
