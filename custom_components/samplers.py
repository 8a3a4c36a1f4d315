"""One reverse step x_t -> x_s per algorithm (Eq. 1), all behind one call.

``step(x_t, x_0, t, s, schedule, noise_fn)``: the state ``x_t`` and the network's estimate ``x_0`` are (N, C, X, Y, Z),
``t`` and ``s < t`` are timesteps of the schedule (s = -1 means clean), ``noise_fn(like)`` gives Gaussian noise of a
tensor's shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from .errors import InputError
from .schedules import NoiseSchedule

__all__ = ["DDIMSampler", "DDPMSampler", "Sampler"]

NoiseFn = Callable[[Tensor], Tensor]


class Sampler(Protocol):
    """What the inferer needs of a sampling algorithm."""

    def step(self, x_t: Tensor, x_0: Tensor, t: int, s: int, schedule: NoiseSchedule, noise_fn: NoiseFn) -> Tensor: ...


class DDPMSampler:
    """Ancestral sampling: a draw from the posterior q(x_s | x_t, x_0) (Ho et al. 2020, Eq. 6-7), the paper's sampler.

    The posterior is written for any s < t, so a subset of the timesteps is sampled with the right variance.
    """

    def step(self, x_t: Tensor, x_0: Tensor, t: int, s: int, schedule: NoiseSchedule, noise_fn: NoiseFn) -> Tensor:
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        alpha = abar_t / abar_s
        mean = (
            math.sqrt(abar_s) * (1 - alpha) / (1 - abar_t) * x_0 + math.sqrt(alpha) * (1 - abar_s) / (1 - abar_t) * x_t
        )
        variance = (1 - alpha) * (1 - abar_s) / (1 - abar_t)
        return mean if variance <= 0 else mean + math.sqrt(variance) * noise_fn(x_t)


class DDIMSampler:
    """Denoising diffusion implicit models (Song et al. 2021, Eq. 12).

    Args:
        eta: 0 is deterministic, 1 has DDPM's variance.

    Raises:
        InputError: where eta is negative or above 1.
    """

    def __init__(self, eta: float = 1.0) -> None:
        if not 0 <= eta <= 1:
            raise InputError(f"eta must lie within 0 and 1, got {eta}.")
        self.eta = eta

    def step(self, x_t: Tensor, x_0: Tensor, t: int, s: int, schedule: NoiseSchedule, noise_fn: NoiseFn) -> Tensor:
        abar_t, abar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
        epsilon = (x_t - math.sqrt(abar_t) * x_0) / math.sqrt(1 - abar_t)
        variance = self.eta**2 * (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)
        x_s = math.sqrt(abar_s) * x_0 + math.sqrt(max(1 - abar_s - variance, 0.0)) * epsilon
        return x_s if variance <= 0 else x_s + math.sqrt(variance) * noise_fn(x_t)
