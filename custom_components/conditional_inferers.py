"""Cond-Diffusion (section 4.1): the whole crop is generated, lesion and background, under the mask and the scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .inferers import LesionInpaintingInferer
from .schedules import NoiseSchedule

__all__ = ["ConditionalInferer"]


class ConditionalInferer(LesionInpaintingInferer):
    """Draws the whole crop from pure noise; what the scan and the masks hold are further input channels, no more.

    Called as :class:`~custom_components.inferers.LesionInpaintingInferer`, and as interchangeable. The reverse process
    has no blending: the result is the network's own in every voxel, so it also changes the background. As in the paper
    there is no histogram, and all classes lie in one image, told apart by the input only.

    The network sees (N, 2 + n, X, Y, Z): the state x_t, noise everywhere at first, the mask of each class, and the
    scan with every lesion voxel put to ``background_fill``.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        context: ``masked``, the background without its lesions.
        blending: ``none``.
        one_image: True.
        background_fill: the value within [-1, 1] that stands where the lesions lie.
        others: see :class:`~custom_components.inferers.LesionInpaintingInferer`.

    Raises:
        InputError: for another context or blending, classes in channels of their own, or a fill outside [-1, 1].
    """

    activity = "generating"
    contexts = ("masked",)
    blendings = ("none",)

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 1,
        context: str = "masked",
        blending: str = "none",
        one_image: bool = True,
        background_fill: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(schedule, num_classes, context=context, blending=blending, one_image=one_image, **others)
        if not self.one_image:
            raise InputError("one_image must be true where the whole crop is generated.")
        if not -1 <= background_fill <= 1:
            raise InputError(f"background_fill must lie within -1 and 1, got {background_fill}.")
        self.background_fill = background_fill

    def shown_masks(self, masks: Tensor) -> Tensor:
        """The masks as they are: a channel for each class."""
        return masks

    def network_input(self, x_t: Tensor, image: Tensor, masks: Tensor) -> Tensor:
        """(N, 2 + n, ...) of the state (N, 1, ...), the scan (N, 1, ...) and the masks (N, n, ...)."""
        lesion = masks.amax(dim=1, keepdim=True) > 0
        return torch.cat([x_t, masks, image.masked_fill(lesion, self.background_fill)], dim=1)

    def sample(
        self,
        image: Tensor,
        masks: Tensor,
        network: nn.Module,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """The reverse process over the whole crop, (N, 1, X, Y, Z); arguments as :meth:`__call__`."""
        self.classes.check_disjoint(masks)
        everywhere = torch.ones_like(image)
        return self.fill(image, everywhere, network, lambda x_t: self.network_input(x_t, image, masks), None, seeds)
