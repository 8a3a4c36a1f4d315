"""What the inferer is tested with: small inputs, networks that are known through and through, and its samplers."""

from __future__ import annotations

import torch
from torch import nn

from custom_components.samplers import DDIMSampler, DDPMSampler
from custom_components.schedules import NoiseSchedule

T = 12
GRID = (8, 8, 8)
SAMPLERS = {
    "ddpm": DDPMSampler(),
    "ddim_eta_1": DDIMSampler(1.0),
    "ddim_eta_half": DDIMSampler(0.5),
    "ddim_eta_0": DDIMSampler(0.0),
}
CONTEXTS = ("diffused", "clean")


def example(samples: int = 2, classes: int = 1, seed: int = 0) -> torch.Tensor:
    """Image and one mask per class (N, 1 + n, X, Y, Z); the lesions' places and sizes differ between samples."""
    generator = torch.Generator().manual_seed(seed)
    image = 2 * torch.rand(samples, 1, *GRID, generator=generator) - 1
    masks = torch.zeros(samples, classes, *GRID)
    for k in range(samples):
        for i in range(classes):
            masks[k, i, 1 + 3 * i : 3 + 3 * i, 2 : 4 + k, 2:6] = 1
    return torch.cat([image, masks], dim=1)


def histograms(samples: int = 2, classes: int = 1) -> torch.Tensor:
    return torch.rand(samples, classes, 16, generator=torch.Generator().manual_seed(9)).softmax(dim=-1)


class FakeNetwork(nn.Module):
    """Depends on every voxel it sees, on time and on the condition; remembers its calls."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []

    def forward(self, x, timesteps, context=None):
        self.calls.append((x.clone(), timesteps.clone(), None if context is None else context.clone()))
        everywhere = x.mean(dim=(1, 2, 3, 4), keepdim=True)
        state = x[:, : self.classes] if x.shape[1] == self.classes else x[:, :1]  # clean: one image for all classes
        state = state.expand(-1, self.classes, *GRID)
        prediction = 0.5 * state + 0.3 * everywhere + 0.02 * timesteps.view(-1, 1, 1, 1, 1)
        if context is not None:
            prediction = prediction + 5 * context[..., :8].sum(dim=-1)[..., None, None, None] - 2
        return prediction


class Oracle(nn.Module):
    """Knows the clean image and predicts whatever leads to it."""

    def __init__(self, x_0: torch.Tensor, schedule: NoiseSchedule, prediction_type: str) -> None:
        super().__init__()
        self.x_0, self.schedule, self.prediction_type = x_0, schedule, prediction_type

    def forward(self, x, timesteps, context=None):
        classes = self.x_0.shape[1]
        x_t = x if x.shape[1] == classes else x[:, :1]  # diffused: a state for each class; clean: one image for all
        abar = torch.tensor([self.schedule.alpha_bar(int(t)) for t in timesteps]).view(-1, 1, 1, 1, 1)
        noise = (x_t - abar.sqrt() * self.x_0) / (1 - abar).sqrt()
        velocity = abar.sqrt() * noise - (1 - abar).sqrt() * self.x_0
        return {"epsilon": noise, "v_prediction": velocity, "sample": self.x_0}[self.prediction_type]


class Convolution(nn.Module):
    """Has weights, so that autocast has something to cast."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(channels, 1, 3, padding=1)
        self.dtypes: list[torch.dtype] = []

    def forward(self, x, timesteps, context=None):
        out = self.layer(x)
        self.dtypes.append(out.dtype)
        return out


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32)


def assert_background_untouched(result: torch.Tensor, inputs: torch.Tensor) -> None:
    outside = inputs[:, 1:].sum(dim=1, keepdim=True) == 0
    assert outside.any()
    assert result.shape == inputs[:, :1].shape
    assert torch.equal(bits(result)[outside], bits(inputs[:, :1])[outside])
