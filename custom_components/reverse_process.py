"""The reverse process of every inferer: from noise along a walk, what lies outside a region being known (Eq. 1-3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from .errors import InputError, as_flag
from .samplers import DDIMSampler, NoiseFn, Sampler
from .schedules import NoiseSchedule, resampling_walk, spaced_timesteps
from .seeds import PerSampleNoise, derive_seed

__all__ = ["ReverseProcessInferer"]


AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class ReverseProcessInferer(Inferer):
    """Draws what is unknown of x_0: inside a region by the network, outside it from the values known there.

    A subclass says in ``__call__`` what the region, the known values and the network's input are.

    Args:
        schedule: the noise schedule.
        prediction_type: what the network predicts: ``epsilon``, ``v_prediction`` or ``sample``.
        sampler: the reverse step, :class:`~custom_components.samplers.DDIMSampler` (eta 1) by default.
        num_inference_steps: timesteps used out of the schedule's T.
        jump_length, jump_n_sample: recurrent length and sampling frequency of appendix F, in units of the used steps.
        guidance_scale: g of classifier-free guidance, ``null + g (conditional - null)``; 1 turns it off.
        clip_x_0: keep the estimate of x_0 within [-1, 1].
        seed: run seed, used where the call gives no ``seeds``.
        noise_fn: replaces every Gaussian draw: called with a tensor, gives noise of its shape.
        amp_dtype: run the network in this dtype (``float16``, ``bfloat16``) by autocast; None: as it is.
        progress: show a progress bar over the network's forwards.
        on_step: called as ``on_step(step, timestep, x)`` with the initial noise (step 0) and after each step of the
            walk, to keep intermediate states; see :class:`~custom_components.handlers.IntermediateStates`.

    Raises:
        InputError: for an unknown prediction type or AMP type, or steps outside 1..T.
    """

    activity = "sampling"  # what the progress bar says

    def __init__(
        self,
        schedule: NoiseSchedule,
        prediction_type: str = "v_prediction",
        sampler: Sampler | None = None,
        num_inference_steps: int = 10,
        jump_length: int = 1,
        jump_n_sample: int = 1,
        guidance_scale: float = 1.0,
        clip_x_0: bool = True,
        seed: int = 0,
        noise_fn: NoiseFn | None = None,
        amp_dtype: str | None = None,
        progress: bool = False,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise InputError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}.")
        if amp_dtype is not None and amp_dtype not in AMP_DTYPES:
            raise InputError(f"amp_dtype must be {' or '.join(AMP_DTYPES)}, got {amp_dtype!r}.")
        self.schedule = schedule
        self.prediction_type = prediction_type
        self.sampler = DDIMSampler(eta=1.0) if sampler is None else sampler
        self.timesteps = spaced_timesteps(schedule.num_train_timesteps, num_inference_steps)
        self.walk = resampling_walk(num_inference_steps, jump_length, jump_n_sample)
        self.guidance_scale = guidance_scale
        self.clip_x_0 = clip_x_0
        self.seed = seed
        self.noise_fn = noise_fn
        self.amp_dtype = None if amp_dtype is None else AMP_DTYPES[amp_dtype]
        self.progress = as_flag(progress, "progress")
        self.on_step = on_step

    @property
    def num_forwards(self) -> int:
        """Network evaluations a sample takes (without guidance, which doubles them)."""
        return sum(after < before for before, after in zip(self.walk, self.walk[1:], strict=False))

    def guide(self, x_0: Tensor, region: Tensor, condition: Tensor | None) -> Tensor:
        """A subclass's say in the estimate of x_0 at every step; (N, n, X, Y, Z) to the same."""
        return x_0

    @torch.no_grad()
    def fill(
        self,
        known: Tensor,
        region: Tensor,
        network: nn.Module,
        network_input: Callable[[Tensor], Tensor],
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        redraw_outside: Tensor | None = None,
    ) -> Tensor:
        """Runs the walk: x_0 (N, n, X, Y, Z), equal to ``known`` outside the region.

        Args:
            known: (N, n, X, Y, Z), x_0 outside the region.
            region: (N, n, X, Y, Z), above 0 where x_0 is to be drawn.
            network: called as ``network(network_input(x_t), timesteps, context=condition)``.
            network_input: what the network sees of a state x_t.
            condition: (N, ...); None for the null condition.
            seeds: one seed per sample.
            redraw_outside: (N, n, X, Y, Z). None: after every step the known values, noised to the new level, replace
                the state outside the region (Eq. 3). Given: they do so before every evaluation of the network, noised
                to its level, wherever this is not above 0. Only jumps and the very first state tell the two apart.
        """
        noise_fn = self.noise_fn
        if noise_fn is None:
            own = [derive_seed(self.seed, i) for i in range(len(known))]
            noise_fn = PerSampleNoise(own if seeds is None else seeds)
        x = noise_fn(known)
        bar = tqdm(total=self.num_forwards, desc=self.activity, disable=not self.progress, leave=False)
        if self.on_step is not None:
            self.on_step(0, self.timesteps[-1], x)
        for step, (before, after) in enumerate(zip(self.walk, self.walk[1:], strict=False), start=1):
            t, s = self.timesteps[before], -1 if after < 0 else self.timesteps[after]
            if after > before:
                x = self.schedule.renoise(x, t, s, noise_fn(x))
            else:
                if redraw_outside is not None:
                    x = torch.where(redraw_outside > 0, x, self.noised(known, t, noise_fn))
                x_0 = self.estimate_x_0(x, t, region, network, network_input, condition)
                x = self.sampler.step(x, x_0, t, s, self.schedule, noise_fn)
                if redraw_outside is None or s < 0:
                    x = torch.where(region > 0, x, self.noised(known, s, noise_fn))
                bar.update()
            if self.on_step is not None:
                self.on_step(step, s, x)
        bar.close()
        return x

    def estimate_x_0(
        self,
        x_t: Tensor,
        t: int,
        region: Tensor,
        network: nn.Module,
        network_input: Callable[[Tensor], Tensor],
        condition: Tensor | None,
    ) -> Tensor:
        """The network's estimate of x_0, with classifier-free guidance. Arguments as :meth:`fill`."""
        timesteps = torch.full((x_t.shape[0],), t, dtype=torch.long, device=x_t.device)
        seen = network_input(x_t)
        with torch.autocast(x_t.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            prediction = network(seen, timesteps, context=condition)
            if self.guidance_scale != 1 and condition is not None:
                null = network(seen, timesteps, context=None)
                prediction = null + self.guidance_scale * (prediction - null)
        x_0 = self.schedule.predict_x_0(prediction.to(x_t), x_t, timesteps, self.prediction_type)
        x_0 = x_0.clamp(-1, 1) if self.clip_x_0 else x_0
        x_0 = self.guide(x_0, region, condition)
        return x_0.clamp(-1, 1) if self.clip_x_0 else x_0

    def noised(self, known: Tensor, s: int, noise_fn: NoiseFn) -> Tensor:
        """The known values at level s (Eq. 2), themselves for s = -1."""
        if s < 0:
            return known
        level = torch.full((known.shape[0],), s, dtype=torch.long, device=known.device)
        return self.schedule.add_noise(known, noise_fn(known), level)
