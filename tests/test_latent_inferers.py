"""Diffusion on latents: what the network is shown, where sampling starts, and what the training step asks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from custom_components.errors import InputError
from custom_components.latent_engines import LatentDiffusionPrepareBatch, ReconstructionPrepareBatch
from custom_components.latent_inferers import LatentConditionalInferer, ReconstructionInferer
from custom_components.networks import LatentUNet, VQAutoencoder
from custom_components.schedules import NoiseSchedule
from custom_components.seeds import PerSampleNoise

SCHEDULE = NoiseSchedule(300)
FILL = 0.25
SIZE = (8, 8, 4)


class PooledLatents(nn.Module):
    """Stands in for a LatentUNet: a latent is the image's mean over blocks of 2^3 voxels, and that negative."""

    def __init__(self, answer: float = 0.0) -> None:
        super().__init__()
        self.answer, self.seen = answer, []

    def encode(self, image: Tensor) -> Tensor:
        mean = nn.functional.avg_pool3d(image, 2)
        return torch.cat([mean, -mean], dim=1)

    def decode(self, latent: Tensor) -> Tensor:
        return nn.functional.interpolate(latent[:, :1], scale_factor=2)

    def check_autoencoder(self) -> None:
        pass

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        self.seen.append((x.clone(), timesteps.clone()))
        return torch.full_like(x[:, :2], self.answer)


def inputs_of(classes: int = 1, samples: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.zeros(samples, 1 + classes, *SIZE)
    inputs[:, 0] = 2 * torch.rand(samples, *SIZE, generator=generator) - 1
    for number in range(classes):
        inputs[:, 1 + number, 1 + 4 * number : 4 + 4 * number, 2:5, 1:3] = 1
    return inputs


def blocks(volume: Tensor) -> np.ndarray:
    """Means over blocks of 2^3 voxels of (N, X, Y, Z)."""
    array = volume.numpy()
    return array.reshape(len(array), 4, 2, 4, 2, 2, 2).mean(axis=(2, 4, 6))


def shown(inputs: Tensor) -> np.ndarray:
    """Shares of the masks, then the latent of the filled background: what stands behind the state."""
    lesion = inputs[:, 1:].sum(dim=1) > 0
    background = blocks(torch.where(lesion, torch.tensor(FILL), inputs[:, 0]))
    shares = [blocks(inputs[:, 1 + number]) for number in range(inputs.shape[1] - 1)]
    return np.stack([*shares, background, -background], axis=1)


@pytest.mark.parametrize("classes", [1, 2])
def test_network_sees_noise_the_masks_shares_and_the_background_s_latent(classes):
    network, inputs = PooledLatents(), inputs_of(classes)
    inferer = LatentConditionalInferer(SCHEDULE, classes, background_fill=FILL, num_inference_steps=3)
    inferer(inputs, network, seeds=[5, 6])
    assert len(network.seen) == 3
    first = network.seen[0][0]
    assert torch.equal(first[:, :2], PerSampleNoise([5, 6])(torch.zeros(2, 2, 4, 4, 2)))
    for x, _ in network.seen:
        np.testing.assert_allclose(x[:, 2:], shown(inputs), atol=1e-6)


def test_result_is_the_decoder_s_alone_everywhere():
    """A network that always knows z_0 = 3: the decoded crop is 3, clipped, and nothing of the scan is left."""
    inferer = LatentConditionalInferer(SCHEDULE, prediction_type="sample", num_inference_steps=4)
    painted = inferer(inputs_of(), PooledLatents(answer=3.0), seeds=[1, 2])
    assert torch.equal(painted, torch.ones(2, 1, *SIZE))
    small = inferer(inputs_of(), PooledLatents(answer=-0.5), seeds=[1, 2])
    torch.testing.assert_close(small, torch.full((2, 1, *SIZE), -0.5))


def real_network() -> LatentUNet:
    torch.manual_seed(0)
    autoencoder = VQAutoencoder(channels=(8,), num_res_layers=1, num_embeddings=64, embedding_dim=4)
    autoencoder(torch.randn(4, 1, *SIZE))
    network = LatentUNet(autoencoder, channels=(8, 8), norm_num_groups=4, num_head_channels=4)
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def test_sample_depends_on_its_seed_not_on_its_batch_nor_on_the_lesion_it_replaces():
    network, inputs = real_network(), inputs_of()
    inferer = LatentConditionalInferer(SCHEDULE, num_inference_steps=3)
    both = inferer(inputs, network, seeds=[5, 6])
    torch.testing.assert_close(inferer(inputs[1:], network, seeds=[6]), both[1:])
    assert not torch.allclose(inferer(inputs[1:], network, seeds=[7]), both[1:])
    other = inputs.clone()
    other[:, 0][inputs[:, 1] > 0] = 0.9
    assert torch.equal(inferer(other, network, seeds=[5, 6]), both)


def test_histogram_plays_no_part():
    network, inputs = real_network(), inputs_of()
    inferer = LatentConditionalInferer(SCHEDULE, num_inference_steps=2, texture_guidance=1.0)
    histogram = torch.eye(16)[3].expand(2, 1, 16)
    assert torch.equal(
        inferer(inputs, network, seeds=[1, 2], condition=histogram), inferer(inputs, network, seeds=[1, 2])
    )


def batch_of(inputs: Tensor) -> dict:
    return {"image": inputs[:, :1], "label": inputs[:, 1:], "seed": torch.tensor([11, 12])}


def test_training_step_asks_for_the_velocity_of_the_image_s_latent():
    network, inputs = PooledLatents(), inputs_of()
    prepare = LatentDiffusionPrepareBatch(SCHEDULE, network)
    given, target, _, extra = prepare(batch_of(inputs), "cpu")
    latent = np.stack([blocks(inputs[:, 0]), -blocks(inputs[:, 0])], axis=1)
    noise, timesteps = extra["noise"].numpy(), extra["timesteps"]
    cosine = [
        math.cos((int(t + 1) / 300 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
        for t in timesteps
    ]
    a = np.array(cosine).reshape(2, 1, 1, 1, 1)
    b = np.sqrt(1 - a**2)
    np.testing.assert_allclose(target, a * noise - b * latent, atol=1e-3)
    LatentConditionalInferer(SCHEDULE, background_fill=FILL)(given, network, **extra)
    ((x, t),) = network.seen
    np.testing.assert_allclose(x[:, :2], a * latent + b * noise, atol=1e-3)
    np.testing.assert_allclose(x[:, 2:], shown(inputs), atol=1e-6)
    assert torch.equal(t, timesteps)


def test_draws_of_a_training_step_follow_the_sample_alone():
    network, batch = PooledLatents(), batch_of(inputs_of())
    whole = LatentDiffusionPrepareBatch(SCHEDULE, network)(batch)
    alone = LatentDiffusionPrepareBatch(SCHEDULE, network)({key: value[1:] for key, value in batch.items()})
    assert torch.equal(alone[1], whole[1][1:])
    assert torch.equal(alone[3]["timesteps"], whole[3]["timesteps"][1:])


def test_batch_is_not_prepared_for_an_autoencoder_that_was_never_trained():
    network = LatentUNet(VQAutoencoder(channels=(8,)), channels=(8, 8), norm_num_groups=4, num_head_channels=4)
    with pytest.raises(InputError, match="pass --autoencoder_weights"):
        LatentDiffusionPrepareBatch(SCHEDULE, network)


def test_reconstruction_is_of_the_image_and_leaves_a_training_autoencoder_as_it_is():
    autoencoder = VQAutoencoder(channels=(8,), num_res_layers=1, num_embeddings=64, embedding_dim=4)
    autoencoder(torch.randn(4, 1, *SIZE))
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    inputs = inputs_of()
    made = ReconstructionInferer()(inputs, autoencoder, condition=None, seeds=[1, 2])
    assert autoencoder.training
    assert all(torch.equal(before[name], value) for name, value in autoencoder.state_dict().items())
    torch.testing.assert_close(made, autoencoder.eval()(inputs[:, :1])[0].clamp(-1, 1))
    image, target = ReconstructionPrepareBatch()(batch_of(inputs))
    assert torch.equal(image, inputs[:, :1]) and torch.equal(target, inputs[:, :1])
