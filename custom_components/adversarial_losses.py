"""Losses of a VQ-GAN's two networks (Esser et al. 2021, Eq. 4-7), for MONAI's AdversarialTrainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn

__all__ = ["DiscriminatorLoss", "GeneratorLoss", "ReconstructionLoss"]


class ReconstructionLoss(nn.Module):
    """Mean absolute error, plus a perceptual loss where one is given.

    Args:
        perceptual: called as ``perceptual(reconstruction, image)``, such as MONAI's PerceptualLoss, which needs
            pretrained weights; None leaves it out.
        perceptual_weight: its weight.
    """

    def __init__(
        self, perceptual: Callable[[Tensor, Tensor], Tensor] | None = None, perceptual_weight: float = 0.01
    ) -> None:
        super().__init__()
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Two (N, 1, X, Y, Z) -> a scalar."""
        loss = nn.functional.l1_loss(reconstruction, image)
        if self.perceptual is not None:
            loss = loss + self.perceptual_weight * self.perceptual(reconstruction, image)
        return loss


class GeneratorLoss(nn.Module):
    """How little a patch discriminator takes reconstructions for images.

    Args:
        criterion: as MONAI's PatchAdversarialLoss.
    """

    def __init__(self, criterion: str = "least_squares") -> None:
        super().__init__()
        self.loss = PatchAdversarialLoss(criterion=criterion)

    def forward(self, of_fakes: Sequence[Tensor]) -> Tensor:
        """The discriminator's layers for the reconstructions, the verdict last -> a scalar."""
        return self.loss(of_fakes[-1], target_is_real=True, for_discriminator=False)


class DiscriminatorLoss(nn.Module):
    """How badly a patch discriminator tells images from reconstructions.

    Args:
        criterion: as MONAI's PatchAdversarialLoss.
    """

    def __init__(self, criterion: str = "least_squares") -> None:
        super().__init__()
        self.loss = PatchAdversarialLoss(criterion=criterion)

    def forward(self, of_reals: Sequence[Tensor], of_fakes: Sequence[Tensor]) -> Tensor:
        """The discriminator's layers for images and reconstructions, the verdicts last -> a scalar."""
        real = self.loss(of_reals[-1], target_is_real=True, for_discriminator=True)
        fake = self.loss(of_fakes[-1], target_is_real=False, for_discriminator=True)
        return (real + fake) / 2
