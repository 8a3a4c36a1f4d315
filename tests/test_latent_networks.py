"""The vector-quantised autoencoder and the U-Net on its latents: sizes, one scale, and what never changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from custom_components.errors import InputError
from custom_components.handlers import EMAHandler
from custom_components.networks import LatentUNet, VQAutoencoder

SMALL = {"channels": (8, 8), "num_res_layers": 1, "num_embeddings": 32, "embedding_dim": 4}
UNET = {"channels": (8, 16), "attention_levels": (False, True), "norm_num_groups": 4, "num_head_channels": 8}


def trained_autoencoder(steps: int = 60, **settings) -> VQAutoencoder:
    """One whose moments have seen batches; its weights are as they came."""
    torch.manual_seed(0)
    network = VQAutoencoder(**{**SMALL, **settings})
    with torch.no_grad():
        for _ in range(steps):
            network(0.5 * torch.randn(4, 1, 16, 16, 8))
    return network.eval()


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "autoencoder.pt"
    torch.save(trained_autoencoder().state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("in_plane", "size", "latent"), [(False, (16, 24, 8), (4, 6, 2)), (True, (16, 24, 5), (4, 6, 5))]
)
def test_latent_is_a_quarter_of_the_crop_and_thick_slices_stay_apart(in_plane, size, latent):
    network = VQAutoencoder(in_plane=in_plane, **SMALL)
    image = torch.randn(2, 1, *size)
    reconstruction, loss = network(image)
    assert reconstruction.shape == image.shape
    assert loss.shape == ()
    assert network.to_latent(image).shape == (2, 4, *latent)
    assert network.to_image(network.to_latent(image)).shape == image.shape


def test_crop_that_cannot_be_halved_is_refused_by_its_multiples():
    with pytest.raises(InputError, match=r"multiples of \[4, 4, 1\], got \[16, 18, 5\]"):
        VQAutoencoder(in_plane=True, **SMALL)(torch.zeros(1, 1, 16, 18, 5))
    with pytest.raises(InputError, match=r"multiples of \[8, 8, 8\], got \[16, 16, 12\]"):
        LatentUNet(VQAutoencoder(**SMALL), **UNET).check_size((16, 16, 12))
    LatentUNet(VQAutoencoder(in_plane=True, **SMALL), **UNET).check_size((16, 16, 5))


def test_latents_have_mean_0_and_variance_1_in_every_channel():
    network = trained_autoencoder()
    with torch.no_grad():
        latent = network.to_latent(0.5 * torch.randn(64, 1, 16, 16, 8))
    np.testing.assert_allclose(latent.mean(dim=(0, 2, 3, 4)), np.zeros(4), atol=0.1)
    np.testing.assert_allclose(latent.std(dim=(0, 2, 3, 4)), np.ones(4), atol=0.1)


def test_image_of_a_latent_is_what_the_autoencoder_reconstructs():
    """So the scale that the latents are brought to is taken back before the codebook is asked."""
    network, image = trained_autoencoder(), torch.randn(2, 1, 16, 16, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.to_image(network.to_latent(image)), network(image)[0])


def test_every_code_starts_where_the_data_is_and_unused_ones_return_to_it():
    torch.manual_seed(0)
    network = VQAutoencoder(**SMALL)
    codebook = network.quantizer.quantizer
    image = 0.5 * torch.randn(4, 1, 16, 16, 8)
    outputs = network.encode(image).detach().movedim(1, -1).flatten(0, -2)
    far = torch.full((1, 4), 100.0)

    def distance_to_outputs() -> float:
        return float(torch.cdist(codebook.embedding.weight, outputs).amin(dim=1).max())

    with torch.no_grad():
        network(image)
        assert distance_to_outputs() < 0.2 * float(outputs.std())
        codebook.embedding.weight[5] = codebook.ema_w[5] = far
        codebook.ema_cluster_size[5] = 0.4
        network(image)
    assert distance_to_outputs() < 0.2 * float(outputs.std())


def test_evaluation_leaves_moments_and_codebook_alone():
    network = trained_autoencoder()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.randn(2, 1, 16, 16, 8))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_autoencoder_never_changes_while_the_diffusion_model_trains(weights):
    network = LatentUNet(VQAutoencoder(**SMALL), autoencoder_weights=weights, **UNET)
    network.train()
    assert not network.autoencoder.training
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    z = network.encode(torch.randn(2, 1, 16, 16, 8))
    network(torch.cat([z, torch.zeros_like(z[:, :1]), z], dim=1), torch.tensor([3, 200])).square().mean().backward()
    for parameter in network.unet.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {name for name in before if name.startswith("unet.")}


def test_state_of_the_latent_network_alone_makes_the_whole_model(weights, tmp_path):
    network = LatentUNet(VQAutoencoder(**SMALL), autoencoder_weights=weights, **UNET)
    again = LatentUNet(VQAutoencoder(**SMALL), **UNET)
    again.load_state_dict(network.state_dict())
    image = torch.randn(1, 1, 16, 16, 8)
    assert torch.equal(again.encode(image), network.encode(image))
    assert torch.equal(again.decode(again.encode(image)), network.decode(network.encode(image)))


def test_average_of_a_training_holds_the_autoencoder_from_the_start(weights):
    network = LatentUNet(VQAutoencoder(**SMALL), autoencoder_weights=weights, **UNET)
    average = EMAHandler(network).ema_model
    image = torch.randn(1, 1, 16, 16, 8)
    assert torch.equal(average.encode(image), network.encode(image))


def test_missing_or_unfitting_autoencoder_is_told_in_one_sentence(weights, tmp_path):
    with pytest.raises(InputError, match="has no trained autoencoder: pass --autoencoder_weights"):
        LatentUNet(VQAutoencoder(**SMALL), **UNET).encode(torch.zeros(1, 1, 16, 16, 8))
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        LatentUNet(VQAutoencoder(**SMALL), autoencoder_weights=tmp_path / "nowhere.pt", **UNET)
    wider = VQAutoencoder(**{**SMALL, "channels": (8, 16)})
    with pytest.raises(InputError, match=r"autoencoder\.pt: '.*' has shape .*, the network needs"):
        LatentUNet(wider, autoencoder_weights=weights, **UNET)
    torch.save(VQAutoencoder(**SMALL).state_dict(), tmp_path / "fresh.pt")
    with pytest.raises(InputError, match=r"fresh\.pt was never trained"):
        LatentUNet(VQAutoencoder(**SMALL), autoencoder_weights=tmp_path / "fresh.pt", **UNET)


def test_latent_network_takes_two_latents_and_the_masks_and_gives_one_latent(weights):
    network = LatentUNet(VQAutoencoder(**SMALL), num_classes=2, autoencoder_weights=weights, **UNET)
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, std=0.1)
    out = network(torch.randn(2, 4 + 2 + 4, 4, 4, 2), torch.tensor([0, 299]))
    assert out.shape == (2, 4, 4, 4, 2)
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.unet.parameters())
