"""The published program's own numbers: networks, noising and losses of every reference checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from custom_components.inferers import LesionInpaintingInferer
from custom_components.losses import LesionFocusedLoss
from custom_components.published import PublishedCheckpoint, read_published
from custom_components.samplers import DDPMSampler
from custom_components.schedules import NoiseSchedule

NAMES = ("lidc", "emidec", "diffmask")
LESION_NAMES = ("lidc", "emidec")
LABELS = {1: (1,), 2: (3, 4)}  # mask labels of the lesion classes


class Case:
    """A reference checkpoint and what the published program computed with it; tensors (N, C, D, H, W)."""

    def __init__(self, golden_dir: Path, name: str) -> None:
        self.file = golden_dir / f"{name}_tiny.pt"
        self.expected: dict[str, Tensor] = torch.load(golden_dir / f"{name}_tiny_expected.pt", weights_only=True)
        self.checkpoint = self.read("model")

    def read(self, weights: str) -> PublishedCheckpoint:
        return read_published(self.file, weights, through_plane_axis=0)

    @property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule(self.checkpoint.num_train_timesteps)

    @property
    def masks(self) -> Tensor:
        """One channel per class."""
        labels = LABELS[self.expected["gt"].shape[1]]
        return torch.cat([(self.expected["mask"] == label).float() for label in labels], dim=1)


@pytest.fixture(scope="module")
def case(request, golden_dir) -> Case:
    return Case(golden_dir, request.param)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", NAMES, indirect=True)
@torch.no_grad()
def test_network_gives_the_reference_outputs(case):
    expected = case.expected
    if "sphere" in expected:
        x = torch.cat([expected["x"], expected["sphere"]], dim=1)
        close(case.checkpoint.network(x, expected["t"]), expected["eps"], 1e-5)
        return
    x, t, condition = expected["x"], expected["t"], expected["cond"]
    network = case.checkpoint.network
    given, null = network(x, t, condition), network(x, t, context=None)
    close(given, expected["eps"], 1e-5)
    close(null, expected["eps_null"], 1e-5)
    close(null + 2 * (given - null), expected["eps_cfg2"], 1e-5)
    averaged = case.read("ema").network
    close(averaged(x, t, condition.unflatten(1, (-1, 16))), expected["eps_ema"], 1e-5)


@pytest.mark.parametrize("case", LESION_NAMES, indirect=True)
@torch.no_grad()
def test_noised_images_and_losses_equal_the_reference(case):
    expected = case.expected
    x_noisy = case.schedule.add_noise(expected["gt"], expected["noise"], expected["t"])
    close(x_noisy, expected["x_noisy"], 1e-6)
    prediction = case.checkpoint.network(x_noisy, expected["t"], expected["cond"])
    target = torch.cat([expected["noise"], case.masks], dim=1)
    for norm in ("l1", "l2"):
        loss = LesionFocusedLoss(norm=norm, reduction="voxel")(prediction, target)
        close(loss, expected[f"loss_{norm}"], 1e-6)


@pytest.mark.parametrize("case", LESION_NAMES, indirect=True)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_lesions_equal_the_reference_s_whole_sampling_run(case, value):
    """Every Gaussian draw is the same constant; outside the masks this project keeps the input bit for bit."""
    expected, T = case.expected, case.checkpoint.num_train_timesteps
    image, masks = expected["gt"][:, :1], case.masks
    inferer = LesionInpaintingInferer(
        case.schedule,
        num_classes=masks.shape[1],
        context="diffused",
        prediction_type="epsilon",
        sampler=DDPMSampler(),
        num_inference_steps=T,
        jump_length=2,
        jump_n_sample=2,
        noise_fn=lambda like: torch.full_like(like, value),
    )
    inputs = torch.cat([image, masks], dim=1)
    painted = inferer(inputs, case.checkpoint.network, condition=expected["cond"])
    lesion = (masks > 0).any(dim=1, keepdim=True)
    close(painted[lesion], expected[f"sample_constnoise_{value}"][lesion], 1e-4)
    assert torch.equal(painted[~lesion], image[~lesion])
