"""Makes MONAI's AdversarialTrainer train a vector-quantised autoencoder."""

from __future__ import annotations

import ignite.distributed as idist
from ignite.engine import Engine
from monai.engines.trainer import AdversarialIterationEvents as Step
from monai.utils.enums import AdversarialKeys
from monai.utils.enums import CommonKeys as Keys

from ..errors import InputError

__all__ = ["QuantisedGAN"]


class QuantisedGAN:
    """Adds the quantisation loss to the reconstruction's, and lets the discriminator join late.

    The generator's call gives the reconstruction and the quantisation loss, of which AdversarialTrainer expects the
    first alone. Without mixed precision that trainer leaves no ``loss`` in its output; it is put there for all to see.

    Args:
        adversarial_weight: weight of the adversarial loss in the generator's.
        adversarial_start: iterations before the two networks learn from each other: until then the autoencoder
            reconstructs (Esser et al. 2021) and the discriminator rests.

    Raises:
        InputError: where either is negative; when attached, under several processes, whose discriminators would part.
    """

    def __init__(self, adversarial_weight: float = 0.1, adversarial_start: int = 1000) -> None:
        for name, value in (("adversarial_weight", adversarial_weight), ("adversarial_start", adversarial_start)):
            if not value >= 0:
                raise InputError(f"{name} must not be negative, got {value!r}.")
        self.weight, self.start = adversarial_weight, adversarial_start

    def attach(self, engine: Engine) -> None:
        if idist.get_world_size() > 1:
            raise InputError("the autoencoder is trained by one process: leave multi_gpu_train out.")
        engine.register_events(*Step)  # the trainer does so only after it has attached its handlers
        engine.add_event_handler(Step.GENERATOR_FORWARD_COMPLETED, self.split)
        engine.add_event_handler(Step.RECONSTRUCTION_LOSS_COMPLETED, self.add_quantisation)
        engine.add_event_handler(Step.GENERATOR_LOSS_COMPLETED, self.weigh_generator)
        engine.add_event_handler(Step.DISCRIMINATOR_LOSS_COMPLETED, self.weigh_discriminator)

    def is_adversarial(self, engine: Engine) -> bool:
        """Whether the discriminator has joined."""
        return engine.state.iteration > self.start

    def split(self, engine: Engine) -> None:
        reconstruction, self.quantisation_loss = engine.state.output[AdversarialKeys.FAKES]
        engine.state.output[AdversarialKeys.FAKES] = engine.state.output[Keys.PRED] = reconstruction

    def add_quantisation(self, engine: Engine) -> None:
        loss = engine.state.output[AdversarialKeys.RECONSTRUCTION_LOSS] + self.quantisation_loss
        engine.state.output[AdversarialKeys.RECONSTRUCTION_LOSS] = loss

    def weigh_generator(self, engine: Engine) -> None:
        output = engine.state.output
        output[AdversarialKeys.GENERATOR_LOSS] = (
            output[AdversarialKeys.GENERATOR_LOSS] * self.weight * self.is_adversarial(engine)
        )
        output[Keys.LOSS] = output[AdversarialKeys.RECONSTRUCTION_LOSS] + output[AdversarialKeys.GENERATOR_LOSS]

    def weigh_discriminator(self, engine: Engine) -> None:
        output = engine.state.output
        output[AdversarialKeys.DISCRIMINATOR_LOSS] = output[AdversarialKeys.DISCRIMINATOR_LOSS] * self.is_adversarial(
            engine
        )
