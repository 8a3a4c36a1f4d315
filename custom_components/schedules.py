"""Noise schedule (Eq. 2) and the recurrent mechanism's walk through time (appendix F)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import InputError

__all__ = ["NoiseSchedule", "cosine_betas", "resampling_walk", "spaced_timesteps"]


def cosine_betas(num_train_timesteps: int, offset: float = 0.008, max_beta: float = 0.9999) -> Tensor:
    """Betas of the cosine schedule of Nichol and Dhariwal (2021), clipped at ``max_beta``.

    MONAI's own cosine table clips at 0.999, the published LeFusion at 0.9999; the difference matters at t = T.

    Returns:
        float64 tensor of shape (T,).
    """
    u = torch.arange(num_train_timesteps + 1, dtype=torch.float64) / num_train_timesteps
    alphas_cumprod = torch.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alphas_cumprod[1:] / alphas_cumprod[:-1]).clamp(0, max_beta)


class NoiseSchedule:
    """The variance-preserving forward process q of Eq. 2, and the algebra between x_0, noise and velocity.

    With abar_t the product of (1 - beta_s) over s <= t: ``x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`` and the
    velocity ``v_t = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0`` (Salimans and Ho, 2022). Timestep -1 means clean.

    Args:
        num_train_timesteps: T, 300 in the paper.
        max_beta: largest beta, 0.9999 as published.
        snr_shift: factor on the signal-to-noise ratio abar_t / (1 - abar_t) at every t, 1 in the paper. What many
            neighbouring voxels tell alike, such as a mask, stays visible through more noise; a factor below 1 spreads
            its destruction over more timesteps (Hoogeboom et al. 2023, simple diffusion).

    Attributes:
        betas, alphas_cumprod: float32 tables of shape (T,), computed in float64.

    Raises:
        ValueError: where T < 1, max_beta lies outside (0, 1), or snr_shift is not above 0.
    """

    def __init__(self, num_train_timesteps: int = 300, max_beta: float = 0.9999, snr_shift: float = 1.0) -> None:
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps must be at least 1, got {num_train_timesteps}.")
        if not 0 < max_beta < 1:
            raise ValueError(f"max_beta must lie between 0 and 1, got {max_beta}.")
        if not snr_shift > 0:
            raise ValueError(f"snr_shift must be above 0, got {snr_shift}.")
        self.num_train_timesteps = num_train_timesteps
        betas = cosine_betas(num_train_timesteps, max_beta=max_beta)
        self._alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        if snr_shift != 1:
            abar = snr_shift * self._alphas_cumprod / (1 - (1 - snr_shift) * self._alphas_cumprod)
            betas = 1 - abar / torch.cat([torch.ones(1, dtype=abar.dtype), abar[:-1]])
            self._alphas_cumprod = abar
        self.betas = betas.float()
        self.alphas_cumprod = self._alphas_cumprod.float()

    def alpha_bar(self, t: int) -> float:
        """abar_t in double precision; 1 for t = -1."""
        return 1.0 if t < 0 else float(self._alphas_cumprod[t])

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t) for timesteps (N,), shaped to multiply ``like`` (N, ...)."""
        abar = self._alphas_cumprod.to(timesteps.device)[timesteps]
        shape = (-1,) + (1,) * (like.ndim - 1)
        return abar.sqrt().to(like).view(shape), (1 - abar).sqrt().to(like).view(shape)

    def add_noise(self, x_0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """q(x_t | x_0), Eq. 2. ``x_0``, ``noise``: (N, C, ...); ``timesteps``: (N,) in 0..T-1."""
        a, b = self.coefficients(timesteps, x_0)
        return a * x_0 + b * noise

    def velocity(self, x_0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The velocity v_t at (x_0, noise)."""
        a, b = self.coefficients(timesteps, x_0)
        return a * noise - b * x_0

    def predict_x_0(self, prediction: Tensor, x_t: Tensor, timesteps: Tensor, prediction_type: str) -> Tensor:
        """x_0 from what a network predicted: ``epsilon``, ``v_prediction`` or ``sample`` (MONAI's names)."""
        a, b = self.coefficients(timesteps, x_t)
        if prediction_type == "epsilon":
            return (x_t - b * prediction) / a
        if prediction_type == "v_prediction":
            return a * x_t - b * prediction
        if prediction_type == "sample":
            return prediction
        raise ValueError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}.")

    def training_target(self, x_0: Tensor, noise: Tensor, timesteps: Tensor, prediction_type: str) -> Tensor:
        """What a network of that ``prediction_type`` is trained to give."""
        if prediction_type == "epsilon":
            return noise
        if prediction_type == "v_prediction":
            return self.velocity(x_0, noise, timesteps)
        if prediction_type == "sample":
            return x_0
        raise ValueError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}.")

    def renoise(self, x_s: Tensor, s: int, t: int, noise: Tensor) -> Tensor:
        """Forward diffusion q(x_t | x_s) from step s to a later step t > s."""
        ratio = self.alpha_bar(t) / self.alpha_bar(s)
        return math.sqrt(ratio) * x_s + math.sqrt(1 - ratio) * noise


def resampling_walk(num_steps: int, jump_length: int = 1, jump_n_sample: int = 1) -> list[int]:
    """The recurrent mechanism of appendix F: the steps visited on the way from noise to image.

    The walk descends from ``num_steps - 1`` to -1 (clean). At every multiple of ``jump_length`` that has room above
    it, the state is noised again by ``jump_length`` steps and denoised back, until that stretch has been sampled
    ``jump_n_sample`` times.

    Args:
        num_steps: number of denoising steps, at least 1.
        jump_length: how many steps a jump goes back up.
        jump_n_sample: how often each stretch is sampled; 1 means no jumps.

    Raises:
        InputError: where an argument is below 1.
    """
    for name, value in (
        ("num_steps", num_steps),
        ("jump_length", jump_length),
        ("jump_n_sample", jump_n_sample),
    ):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
    walk: list[int] = []
    for step in reversed(range(num_steps)):
        walk.append(step)
        top = step + jump_length
        if step % jump_length == 0 and top < num_steps:
            up_and_down = [*range(step + 1, top + 1), *range(top - 1, step - 1, -1)]
            walk.extend(up_and_down * (jump_n_sample - 1))
    walk.append(-1)
    return walk


def spaced_timesteps(num_train_timesteps: int, num_inference_steps: int) -> list[int]:
    """``num_inference_steps`` timesteps out of 0..T-1, ascending, evenly spaced and ending at T-1.

    Raises:
        InputError: where num_inference_steps is not a whole number within 1..T.
    """
    if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= num_train_timesteps:
        raise InputError(
            f"num_inference_steps must be a whole number from 1 to {num_train_timesteps} (training timesteps), "
            f"got {num_inference_steps!r}."
        )
    return [round((k + 1) * num_train_timesteps / num_inference_steps) - 1 for k in range(num_inference_steps)]
