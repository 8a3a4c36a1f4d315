"""Background-blending inpainting: the lesion is generated, everything else is the scan's own (Eq. 1-3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from .combiners import MultiChannelCombiner
from .conditioners import match_texture_mean
from .errors import InputError, as_flag
from .samplers import DDIMSampler, NoiseFn, Sampler
from .schedules import NoiseSchedule, resampling_walk, spaced_timesteps
from .seeds import PerSampleNoise, derive_seed

__all__ = ["LesionInpaintingInferer"]


AMP_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class LesionInpaintingInferer(Inferer):
    """Paints lesions into masks; outside the masks the result is the input, bit for bit.

    ``inferer(inputs, network)`` takes the image and one mask per lesion class as channels and runs the reverse
    process of Eq. 1, blending in the background after every step (Eq. 3) along the walk of appendix F. With ``noise``
    and ``timesteps`` it gives instead the network's prediction for one training step, like MONAI's DiffusionInferer,
    so that training and sampling show the network the same thing.

    Args:
        schedule: the noise schedule.
        num_classes: number of lesion classes n.
        context: what the network sees of the background. ``diffused``: the background noised to level t (Eq. 3, the
            paper), network input x_t (N, n, ...). ``clean``: the true background around the noisy lesion, with the
            masks as further channels, network input (N, 2n, ...).
        prediction_type: what the network predicts: ``epsilon``, ``v_prediction`` or ``sample``.
        sampler: the reverse step, :class:`~custom_components.samplers.DDIMSampler` (eta 1) by default.
        num_inference_steps: timesteps used out of the schedule's T.
        jump_length, jump_n_sample: recurrent length and sampling frequency of appendix F, in units of the used steps.
        guidance_scale: g of classifier-free guidance, ``null + g (conditional - null)``; 1 turns it off.
        texture_guidance: share, 0 to 1, by which each estimate of a lesion is shifted to the mean of its requested
            histogram; 0 leaves the texture to the network alone, as in the paper.
        clip_x_0: keep the estimate of x_0 within [-1, 1].
        seed: run seed, used where the call gives no ``seeds``.
        noise_fn: replaces every Gaussian draw: called with a tensor, gives noise of its shape.
        condition: histogram (n, 16) used where the call gives none.
        amp_dtype: run the network in this dtype (``float16``, ``bfloat16``) by autocast; None: as it is.
        progress: show a progress bar over the network's forwards.
        on_step: called as ``on_step(step, timestep, x)`` with the initial noise (step 0) and after each step of the
            walk, to keep intermediate states; see :class:`~custom_components.handlers.IntermediateStates`.

    Raises:
        InputError: for an unknown context, prediction type or AMP type, or steps outside 1..T.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        num_classes: int = 1,
        context: str = "clean",
        prediction_type: str = "v_prediction",
        sampler: Sampler | None = None,
        num_inference_steps: int = 10,
        jump_length: int = 1,
        jump_n_sample: int = 1,
        guidance_scale: float = 1.0,
        texture_guidance: float = 0.0,
        clip_x_0: bool = True,
        seed: int = 0,
        noise_fn: NoiseFn | None = None,
        condition: Tensor | None = None,
        amp_dtype: str | None = None,
        progress: bool = False,
        on_step: Callable[[int, int, Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        if context not in ("diffused", "clean"):
            raise InputError(f"context must be diffused or clean, got {context!r}.")
        if prediction_type not in ("epsilon", "v_prediction", "sample"):
            raise InputError(f"prediction_type must be epsilon, v_prediction or sample, got {prediction_type!r}.")
        if amp_dtype is not None and amp_dtype not in AMP_DTYPES:
            raise InputError(f"amp_dtype must be {' or '.join(AMP_DTYPES)}, got {amp_dtype!r}.")
        self.schedule = schedule
        self.combiner = MultiChannelCombiner(num_classes)
        self.context = context
        self.prediction_type = prediction_type
        self.sampler = DDIMSampler(eta=1.0) if sampler is None else sampler
        self.timesteps = spaced_timesteps(schedule.num_train_timesteps, num_inference_steps)
        self.walk = resampling_walk(num_inference_steps, jump_length, jump_n_sample)
        self.guidance_scale = guidance_scale
        if not 0 <= texture_guidance <= 1:
            raise InputError(f"texture_guidance must lie within 0 and 1, got {texture_guidance}.")
        self.texture_guidance = texture_guidance
        self.clip_x_0 = clip_x_0
        self.seed = seed
        self.noise_fn = noise_fn
        self.condition = condition
        self.amp_dtype = None if amp_dtype is None else AMP_DTYPES[amp_dtype]
        self.progress = as_flag(progress, "progress")
        self.on_step = on_step

    @property
    def num_forwards(self) -> int:
        """Network evaluations a lesion takes (without guidance, which doubles them)."""
        return sum(after < before for before, after in zip(self.walk, self.walk[1:], strict=False))

    def __call__(
        self,
        inputs: Tensor,
        network: nn.Module,
        *,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """
        Args:
            inputs: (N, 1 + n, X, Y, Z): the image in [-1, 1], then one mask per class in {0, 1}.
            network: called as ``network(x, timesteps, context=condition)``.
            noise: (N, n, X, Y, Z), training only.
            timesteps: (N,), training only.
            condition: (N, n, 16) histograms; zeros, or None, for the null condition.
            seeds: one seed per sample.

        Returns:
            Sampling: (N, 1, X, Y, Z), the painted image. Training: (N, n, X, Y, Z), the network's prediction.
        """
        inputs = torch.as_tensor(inputs).as_subclass(Tensor)  # MONAI's MetaTensor would slow every operation down
        image, masks = self.combiner.split(inputs)
        if timesteps is not None:
            if noise is None:
                raise ValueError("a training step needs noise as well as timesteps.")
            x_t = self.schedule.add_noise(self.combiner.decompose(image), noise, timesteps)
            return network(self.network_input(x_t, image, masks), timesteps, context=condition)
        return self.sample(image, masks, network, condition, seeds)

    def network_input(self, x_t: Tensor, image: Tensor, masks: Tensor) -> Tensor:
        """What the network sees of state x_t (N, n, ...), image (N, 1, ...) and masks (N, n, ...)."""
        if self.context == "diffused":
            return x_t
        lesion = (masks > 0).any(dim=1, keepdim=True)
        return torch.cat([torch.where(lesion, x_t, image), masks], dim=1)

    @torch.no_grad()
    def sample(
        self,
        image: Tensor,
        masks: Tensor,
        network: nn.Module,
        condition: Tensor | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Tensor:
        """The reverse process. Arguments and result as :meth:`__call__`, image and masks apart."""
        self.combiner.check_disjoint(masks)
        count = image.shape[0]
        if condition is None and self.condition is not None:
            condition = torch.as_tensor(self.condition)
            condition = condition.expand(count, *condition.shape)
        if condition is not None:
            condition = torch.as_tensor(condition).as_subclass(Tensor).to(image)
        noise_fn = self.noise_fn
        if noise_fn is None:
            noise_fn = PerSampleNoise([derive_seed(self.seed, i) for i in range(count)] if seeds is None else seeds)
        background = self.combiner.decompose(image)
        x = noise_fn(background)
        bar = tqdm(total=self.num_forwards, desc="painting", disable=not self.progress, leave=False)
        if self.on_step is not None:
            self.on_step(0, self.timesteps[-1], x)
        for step, (before, after) in enumerate(zip(self.walk, self.walk[1:], strict=False), start=1):
            t, s = self.timesteps[before], -1 if after < 0 else self.timesteps[after]
            if after > before:
                x = self.schedule.renoise(x, t, s, noise_fn(x))
            else:
                x = self.reverse_step(x, t, s, image, masks, background, network, condition, noise_fn)
                bar.update()
            if self.on_step is not None:
                self.on_step(step, s, x)
        bar.close()
        return self.combiner.combine(x, masks, image)

    def reverse_step(
        self,
        x_t: Tensor,
        t: int,
        s: int,
        image: Tensor,
        masks: Tensor,
        background: Tensor,
        network: nn.Module,
        condition: Tensor | None,
        noise_fn: NoiseFn,
    ) -> Tensor:
        """x_t -> x_s by Eq. 1 inside the masks and Eq. 2 outside, blended by Eq. 3."""
        timesteps = torch.full((x_t.shape[0],), t, dtype=torch.long, device=x_t.device)
        seen = self.network_input(x_t, image, masks)
        with torch.autocast(x_t.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            prediction = network(seen, timesteps, context=condition)
            if self.guidance_scale != 1 and condition is not None:
                null = network(seen, timesteps, context=None)
                prediction = null + self.guidance_scale * (prediction - null)
        x_0 = self.schedule.predict_x_0(prediction.to(x_t), x_t, timesteps, self.prediction_type)
        x_0 = x_0.clamp(-1, 1) if self.clip_x_0 else x_0
        if self.texture_guidance > 0 and condition is not None:
            histograms = condition.reshape(*masks.shape[:2], -1)
            x_0 = match_texture_mean(x_0, masks, histograms, self.texture_guidance)
            x_0 = x_0.clamp(-1, 1) if self.clip_x_0 else x_0
        lesion = self.sampler.step(x_t, x_0, t, s, self.schedule, noise_fn)
        if s < 0:
            return torch.where(masks > 0, lesion, background)
        level = torch.full_like(timesteps, s)
        return torch.where(masks > 0, lesion, self.schedule.add_noise(background, noise_fn(background), level))
