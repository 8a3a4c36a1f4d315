"""Background-blending inpainting: the lesion is generated, everything else is the scan's own (Eq. 1-3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .combiners import MultiChannelCombiner
from .conditioners import match_texture_mean
from .errors import InputError, as_flag
from .reverse_process import ReverseProcessInferer
from .schedules import NoiseSchedule

__all__ = ["LesionInpaintingInferer"]


class LesionInpaintingInferer(ReverseProcessInferer):
    """Paints lesions into masks; outside the masks the result is the input, bit for bit.

    ``inferer(inputs, network)`` takes the image and one mask per lesion class as channels and runs the reverse
    process of Eq. 1, blending in the background after every step (Eq. 3) along the walk of appendix F. With ``noise``
    and ``timesteps`` it gives instead the network's prediction for one training step, like MONAI's DiffusionInferer,
    so that training and sampling show the network the same thing.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        context: what the network sees of the background. ``diffused``: the background noised to level t (Eq. 3, the
            paper), network input x_t (N, n, ...). ``clean``: the true background around the noisy lesions, which the
            masks put together from their channels (Eq. 6), and the masks, network input (N, 1 + n, ...).
        texture_guidance: share, 0 to 1, by which each estimate of a lesion is shifted to the mean of its requested
            histogram; 0 leaves the texture to the network alone, as in the paper.
        condition: histogram (n, 16) used where the call gives none.
        one_image: all classes lie in one image, which the network draws in one channel, instead of a channel for each
            class: the lesions are one region, their union, and no histogram steers them. For networks that cannot tell
            classes apart (RePaint, section 4.1).
        blending: ``paper``: Eq. 3 after every step, each class's channel outside its own lesions. ``published``: what
            the published program does, the noised background anew before every evaluation of the network, in every
            channel outside the lesions of all classes.
        others: see :class:`~custom_components.reverse_process.ReverseProcessInferer`.

    Raises:
        InputError: for an unknown context, blending, prediction type or AMP type, or steps outside 1..T.
    """

    activity = "painting"
    contexts: tuple[str, ...] = ("diffused", "clean")
    blendings: tuple[str, ...] = ("paper", "published")

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 1,
        context: str = "clean",
        texture_guidance: float = 0.0,
        condition: Tensor | None = None,
        blending: str = "paper",
        one_image: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(schedule, **others)
        if context not in self.contexts:
            raise InputError(f"context must be {' or '.join(self.contexts)}, got {context!r}.")
        if blending not in self.blendings:
            raise InputError(f"blending must be {' or '.join(self.blendings)}, got {blending!r}.")
        if not 0 <= texture_guidance <= 1:
            raise InputError(f"texture_guidance must lie within 0 and 1, got {texture_guidance}.")
        self.classes = MultiChannelCombiner(num_classes)
        self.one_image = as_flag(one_image, "one_image")
        self.combiner = MultiChannelCombiner(1) if self.one_image else self.classes
        self.context = context
        self.texture_guidance = texture_guidance
        self.condition = condition
        self.blending = blending

    def __call__(
        self,
        inputs: Tensor,
        network: nn.Module,
        *,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1 + n, X, Y, Z): the image in [-1, 1], then one mask per class in {0, 1}.
            network: called as ``network(x, timesteps, context=condition)``.
            noise: (N, n, X, Y, Z), (N, 1, ...) for one image; training only.
            timesteps: (N,), training only.
            condition: (N, n, 16) histograms; zeros, or None, for the null condition.
            seeds: one seed per sample.

        Returns:
            Sampling: (N, 1, X, Y, Z), the painted image. Training: the network's prediction, of the noise's shape.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)  # MONAI's MetaTensor would slow every operation down
        image, masks = self.classes.split(inputs)
        if self.one_image:
            masks, condition = self.shown_masks(masks), None
        if timesteps is not None:
            if noise is None:
                raise ValueError("a training step needs noise as well as timesteps.")
            x_t = self.schedule.add_noise(self.combiner.decompose(image), noise, timesteps)
            return network(self.network_input(x_t, image, masks), timesteps, context=condition)
        return self.sample(image, masks, network, condition, seeds)

    def shown_masks(self, masks: Tensor) -> Tensor:
        """The masks (N, n, ...) as a network that draws one image is shown them: their union (N, 1, ...)."""
        return masks.amax(dim=1, keepdim=True)

    def network_input(self, x_t: Tensor, image: Tensor, masks: Tensor) -> Tensor:
        """What the network sees of state x_t (N, n, ...), image (N, 1, ...) and masks (N, n, ...)."""
        if self.context == "diffused":
            return x_t
        return torch.cat([self.combiner.combine(x_t, masks, image), masks], dim=1)

    def sample(
        self,
        image: Tensor,
        masks: Tensor,
        network: nn.Module,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """The reverse process. Arguments and result as :meth:`__call__`, image and masks apart."""
        self.combiner.check_disjoint(masks)
        if condition is None and self.condition is not None and not self.one_image:
            condition = torch.as_tensor(self.condition)
            condition = condition.expand(len(image), *condition.shape)
        if condition is not None:
            condition = torch.as_tensor(condition).as_subclass(Tensor).to(image)
        background = self.combiner.decompose(image)
        x = self.fill(
            background,
            masks,
            network,
            lambda x_t: self.network_input(x_t, image, masks),
            condition,
            seeds,
            masks.sum(dim=1, keepdim=True).expand_as(masks) if self.blending == "published" else None,
        )
        return self.combiner.combine(x, masks, image)

    def guide(self, x_0: Tensor, region: Tensor, condition: Tensor | None) -> Tensor:
        """Texture guidance: shifts each lesion's estimate to the mean of its requested histogram."""
        if self.texture_guidance == 0 or condition is None:
            return x_0
        histograms = condition.reshape(*region.shape[:2], -1)
        return match_texture_mean(x_0, region, histograms, self.texture_guidance)
