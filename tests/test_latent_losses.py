"""The losses of the autoencoder and its discriminator, and how MONAI's trainer comes to use them."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import AdversarialTrainer
from torch import nn

from custom_components.adversarial_losses import DiscriminatorLoss, GeneratorLoss, ReconstructionLoss
from custom_components.errors import InputError
from custom_components.handlers import QuantisedGAN


def test_reconstruction_loss_is_the_mean_absolute_error_and_a_share_of_the_perceptual_one():
    made, image = torch.zeros(2, 1, 4, 4, 4), torch.full((2, 1, 4, 4, 4), 0.5)
    assert float(ReconstructionLoss()(made, image)) == pytest.approx(0.5)
    perceptual = nn.MSELoss()
    assert float(ReconstructionLoss(perceptual, 0.1)(made, image)) == pytest.approx(0.5 + 0.1 * 0.25)


def test_adversarial_losses_look_at_the_verdicts_alone():
    """Least squares: images want 1, reconstructions 0; the generator wants its own to be taken for 1."""
    features = torch.full((2, 8, 4, 4, 4), 100.0)
    real, fake = torch.full((2, 1, 2, 2, 2), 0.5), torch.full((2, 1, 2, 2, 2), 0.25)
    assert float(GeneratorLoss()([features, fake])) == pytest.approx(0.75**2)
    assert float(DiscriminatorLoss()([features, real], [features, fake])) == pytest.approx((0.5**2 + 0.25**2) / 2)


class Scaling(nn.Module):
    """A generator that multiplies by a weight, with a quantisation loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, image):
        return self.weight * image, 0.25 * self.weight**2


class Verdict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, image):
        return [image, self.weight * image.mean(dim=(1, 2, 3, 4))]


def losses_of(start: int) -> tuple[list[float], float, float]:
    """The losses of two steps on an image of ones, without learning, and both networks' gradients in the second."""
    generator, discriminator = Scaling(), Verdict()
    losses: list[float] = []
    image = torch.ones(1, 1, 2, 2, 2)
    trainer = AdversarialTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=DataLoader([{"image": image[0]}] * 2, batch_size=1),
        g_network=generator,
        g_optimizer=torch.optim.SGD(generator.parameters(), lr=0),
        g_loss_function=GeneratorLoss(),
        recon_loss_function=ReconstructionLoss(),
        d_network=discriminator,
        d_optimizer=torch.optim.SGD(discriminator.parameters(), lr=0),
        d_loss_function=DiscriminatorLoss(),
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["image"]),
        decollate=False,
        train_handlers=[QuantisedGAN(adversarial_weight=0.1, adversarial_start=start)],
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    trainer.run()
    return losses, float(generator.weight.grad), float(discriminator.weight.grad)


def test_discriminator_joins_after_the_start_and_weighs_what_it_is_given():
    alone = 0.5 + 0.25 * 0.5**2  # |0.5 - 1|, and the quantisation loss
    verdict = (2 * 0.5 - 1) ** 2  # of the reconstruction
    resting, generator, discriminator = losses_of(start=2)
    assert resting == pytest.approx([alone, alone])
    assert generator == pytest.approx(-1 + 0.25)
    assert discriminator == 0
    joining, _, discriminator = losses_of(start=1)
    assert joining == pytest.approx([alone, alone + 0.1 * verdict])
    assert discriminator == pytest.approx((2 * (2 - 1) * 1 + 2 * 1.0 * 0.5) / 2)


@pytest.mark.parametrize("key", ["adversarial_weight", "adversarial_start"])
def test_negative_settings_are_refused_by_name(key):
    with pytest.raises(InputError, match=f"{key} must not be negative, got -1"):
        QuantisedGAN(**{key: -1})
