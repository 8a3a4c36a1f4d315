"""Background-blending inpainting (Eq. 1-3) along the walk of appendix F."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn

from custom_components.engines import LesionSamplingPrepareBatch
from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
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


def one_image(states: torch.Tensor, image: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The image with every lesion voxel from its own class's state (Eq. 6)."""
    out = image.clone()
    for i in range(masks.shape[1]):
        out = torch.where(masks[:, i : i + 1] > 0, states[:, i : i + 1], out)
    return out


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.int32)


def assert_background_untouched(result: torch.Tensor, inputs: torch.Tensor) -> None:
    outside = inputs[:, 1:].sum(dim=1, keepdim=True) == 0
    assert outside.any()
    assert result.shape == inputs[:, :1].shape
    assert torch.equal(bits(result)[outside], bits(inputs[:, :1])[outside])


# ----------------------------------------------------------------------------------------- the background


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance_scale": 3.0},
        {"jump_length": 2, "jump_n_sample": 2},
        {"prediction_type": "epsilon", "clip_x_0": False, "num_inference_steps": T},
    ],
    ids=["plain", "guidance", "jumps", "epsilon_all_steps_unclipped"],
)
def test_background_is_bit_exact_outside_mask(context, sampler, settings):
    inputs = example()
    inputs[:, 0, 0] = -0.0
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T), context=context, sampler=SAMPLERS[sampler], **{"num_inference_steps": 4, **settings}
    )
    result = inferer(inputs, FakeNetwork(), condition=histograms())
    assert_background_untouched(result, inputs)
    lesion = inputs[:, 1:] > 0
    assert (result[lesion] != inputs[:, :1][lesion]).all()


@pytest.mark.parametrize("context", CONTEXTS)
def test_background_is_bit_exact_outside_mask_under_bfloat16_autocast(context):
    inputs = example()
    network = Convolution(1 if context == "diffused" else 2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), context=context, num_inference_steps=3, amp_dtype="bfloat16")
    result = inferer(inputs, network)
    assert network.dtypes == [torch.bfloat16] * 3
    assert result.dtype == torch.float32
    assert_background_untouched(result, inputs)


def test_background_survives_a_network_that_gives_nan():
    inputs = example()
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(
        inputs, lambda x, t, context=None: torch.full_like(x[:, :1], float("nan"))
    )
    assert_background_untouched(result, inputs)


@pytest.mark.parametrize("context", CONTEXTS)
def test_background_is_bit_exact_for_two_classes(context):
    inputs = example(classes=2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=2, context=context, num_inference_steps=4)
    assert_background_untouched(inferer(inputs, FakeNetwork(2), condition=histograms(classes=2)), inputs)


def test_empty_mask_gives_back_the_image():
    inputs = example()
    inputs[:, 1:] = 0
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(inputs, FakeNetwork())
    assert torch.equal(result, inputs[:, :1])


def test_inputs_are_left_as_they_were():
    inputs, condition = example(), histograms()
    kept, kept_condition = inputs.clone(), condition.clone()
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)(inputs, FakeNetwork(), condition=condition)
    assert torch.equal(inputs, kept)
    assert torch.equal(condition, kept_condition)


# ----------------------------------------------------------------------------------------- the lesion


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_network_that_knows_the_image_makes_every_sampler_recover_it(context, sampler, prediction_type):
    inputs, schedule = example(), NoiseSchedule(T)
    x_0 = 1.8 * torch.rand(2, 1, *GRID, generator=torch.Generator().manual_seed(3)) - 0.9
    inferer = LesionInpaintingInferer(
        schedule,
        context=context,
        prediction_type=prediction_type,
        sampler=SAMPLERS[sampler],
        num_inference_steps=5,
        jump_length=2,
        jump_n_sample=2,
    )
    result = inferer(inputs, Oracle(x_0, schedule, prediction_type))
    lesion = inputs[:, 1:] > 0
    torch.testing.assert_close(result[lesion], x_0[lesion], rtol=0, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_state_on_the_way_has_the_forward_process_s_mean_and_spread(sampler):
    """With a perfect network, inside and outside: mean sqrt(abar_t) x_0, standard deviation sqrt(1 - abar_t)."""
    schedule, grid = NoiseSchedule(T), (16, 16, 16)
    image = torch.full((1, 1, *grid), -0.5)
    x_0 = torch.full((1, 1, *grid), 0.7)
    mask = torch.zeros(1, 1, *grid)
    mask[..., :8, :, :] = 1
    states = []
    inferer = LesionInpaintingInferer(
        schedule,
        context="diffused",
        sampler=SAMPLERS[sampler],
        num_inference_steps=6,
        jump_length=2,
        jump_n_sample=2,
        on_step=lambda step, t, x: states.append((step, t, x)),
    )
    inferer(torch.cat([image, mask], dim=1), Oracle(x_0, schedule, "v_prediction"), seeds=[0])
    assert len(states) > 6
    for _, t, x in states[1:]:
        abar = schedule.alpha_bar(t)
        for part, mean in ((mask > 0, 0.7), (mask == 0, -0.5)):
            assert x[part].mean().item() == pytest.approx(math.sqrt(abar) * mean, abs=0.1)
            assert x[part].std().item() == pytest.approx(math.sqrt(1 - abar), rel=0.08, abs=1e-6)


def trajectory(image, mask, num_steps, jump, constant, context, clip):
    """Eq. 1-3 and appendix F in numpy, for DDPM, epsilon prediction, one class and constant noise."""
    betas = []
    for t in range(T):
        f = [math.cos(((t + k) / T + 0.008) / 1.008 * math.pi / 2) ** 2 for k in (0, 1)]
        betas.append(min(1 - f[1] / f[0], 0.9999))
    abar = np.append(np.cumprod(1 - np.array(betas)), 1.0)  # abar[-1] is that of the clean image
    used = [round((k + 1) * T / num_steps) - 1 for k in range(num_steps)]
    walk = {
        (4, 1): [3, 2, 1, 0, -1],
        (4, 2): [3, 2, 1, 0, 1, 2, 1, 0, -1],
        (5, 2): [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1],
    }[num_steps, jump]
    x = np.full_like(image, constant)
    for before, after in pairwise(walk):
        t, s = used[before], -1 if after < 0 else used[after]
        if after > before:
            alpha = abar[s] / abar[t]
            x = np.sqrt(alpha) * x + np.sqrt(1 - alpha) * constant
            continue
        seen = x[None] if context == "diffused" else np.stack([np.where(mask > 0, x, image), mask])
        epsilon = 0.5 * seen[0] + 0.3 * seen.mean() + 0.02 * t
        x_0 = (x - np.sqrt(1 - abar[t]) * epsilon) / np.sqrt(abar[t])
        x_0 = np.clip(x_0, -1, 1) if clip else x_0
        alpha = abar[t] / abar[s]
        mean = np.sqrt(abar[s]) * (1 - alpha) * x_0 + np.sqrt(alpha) * (1 - abar[s]) * x
        variance = (1 - alpha) * (1 - abar[s]) / (1 - abar[t])
        lesion = mean / (1 - abar[t]) + np.sqrt(variance) * constant
        background = np.sqrt(abar[s]) * image + np.sqrt(1 - abar[s]) * constant
        x = np.where(mask > 0, lesion, background)
    return x


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(("num_steps", "jump"), [(4, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("constant", [0.0, 0.5])
@pytest.mark.parametrize("clip", [True, False])
def test_trajectory_with_constant_noise_equals_the_equations_written_out(context, num_steps, jump, constant, clip):
    inputs = example(samples=1)
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        prediction_type="epsilon",
        sampler=DDPMSampler(),
        num_inference_steps=num_steps,
        jump_length=jump,
        jump_n_sample=jump,
        clip_x_0=clip,
        noise_fn=lambda like: torch.full_like(like, constant),
    )
    result = inferer(inputs.double(), FakeNetwork())
    image, mask = inputs[0].double().numpy()
    expected = trajectory(image, mask, num_steps, jump, constant, context, clip)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, rtol=1e-6, atol=1e-6)


def test_clipping_keeps_the_estimate_within_the_image_range():
    inputs = example()
    lesion = inputs[:, 1:] > 0

    def bright(x, t, context=None):
        return torch.full_like(x[:, :1], 5.0)

    settings = {"prediction_type": "sample", "num_inference_steps": 3}
    clipped = LesionInpaintingInferer(NoiseSchedule(T), clip_x_0=True, **settings)(inputs, bright)
    free = LesionInpaintingInferer(NoiseSchedule(T), clip_x_0=False, **settings)(inputs, bright)
    assert (clipped[lesion] == 1).all()
    assert (free[lesion] == 5).all()


def test_each_class_is_painted_from_its_own_channel():
    inputs, schedule = example(classes=2), NoiseSchedule(T)
    x_0 = torch.stack([torch.full((2, *GRID), -0.25), torch.full((2, *GRID), 0.75)], dim=1)
    inferer = LesionInpaintingInferer(schedule, num_classes=2, num_inference_steps=4)
    result = inferer(inputs, Oracle(x_0, schedule, "v_prediction"))
    for i, value in enumerate((-0.25, 0.75)):
        inside = inputs[:, 1 + i : 2 + i] > 0
        torch.testing.assert_close(result[inside], torch.full((int(inside.sum()),), value), rtol=0, atol=1e-4)


def test_sampling_builds_no_graph():
    inputs = example(samples=1)
    result = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2)(inputs, Convolution(2))
    assert not result.requires_grad


# ----------------------------------------------------------------------------------------- the noise


@pytest.mark.parametrize(("sampler", "draws_per_step"), [("ddpm", 2), ("ddim_eta_1", 2), ("ddim_eta_0", 1)])
def test_every_gaussian_draw_goes_through_noise_fn(monkeypatch, sampler, draws_per_step):
    """One for the start, one for each jump, and for each step but the last one for the background and the sampler's."""

    def forbidden(*args, **kwargs):
        raise AssertionError("a draw went past noise_fn")

    for name in ("randn", "randn_like", "normal", "rand", "rand_like"):
        monkeypatch.setattr(torch, name, forbidden)
    inputs, shapes = torch.zeros(2, 2, *GRID), []

    def noise_fn(like):
        shapes.append(tuple(like.shape))
        return torch.zeros_like(like)

    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        sampler=SAMPLERS[sampler],
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        noise_fn=noise_fn,
    )
    before = torch.get_rng_state()
    inferer(inputs, FakeNetwork())
    # The walk 3 2 1 0 1 2 1 0 -1 has six steps down, the last of which needs no noise, and two up.
    assert len(shapes) == 1 + 2 + 5 * draws_per_step
    assert set(shapes) == {(2, 1, *GRID)}
    assert torch.equal(torch.get_rng_state(), before)


def test_global_generators_are_neither_read_nor_moved():
    inputs, results = example(), []
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3)
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        results.append(inferer(inputs, FakeNetwork(), seeds=[4, 5]))
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == numpy_state).all()
    assert torch.equal(*results)


@pytest.mark.parametrize("context", CONTEXTS)
def test_sample_does_not_depend_on_what_shares_its_batch(context):
    inputs, condition, seeds = example(samples=3), histograms(samples=3), [7, 8, 9]
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        guidance_scale=2.0,
    )
    together = inferer(inputs, FakeNetwork(), condition=condition, seeds=seeds)
    for k in range(3):
        alone = inferer(inputs[k : k + 1], FakeNetwork(), condition=condition[k : k + 1], seeds=seeds[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-5, atol=1e-6)
    turned = inferer(inputs.flip(0), FakeNetwork(), condition=condition.flip(0), seeds=seeds[::-1])
    torch.testing.assert_close(together, turned.flip(0), rtol=1e-5, atol=1e-6)


def test_seed_decides_the_lesion():
    inputs = example(samples=1)
    lesion = inputs[:, 1:] > 0
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4)
    first, again, other = (inferer(inputs, FakeNetwork(), seeds=[seed])[lesion] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_run_seed_is_used_where_the_call_gives_none():
    inputs = example(samples=2)
    inputs[1] = inputs[0]

    def paint(seed):
        return LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3, seed=seed)(inputs, FakeNetwork())

    assert torch.equal(paint(1), paint(1))
    assert not torch.equal(paint(1), paint(2))
    assert not torch.equal(paint(1)[0], paint(1)[1])


def test_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match=r"3 seeds.*batch of 2"):
        LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2)(example(), FakeNetwork(), seeds=[1, 2, 3])


# ----------------------------------------------------------------------------------------- what the network sees


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 10),
        ({"num_inference_steps": 4}, 4),
        ({"num_inference_steps": 4, "jump_length": 2, "jump_n_sample": 3}, 8),
    ],
)
def test_num_forwards_counts_the_network_s_calls(settings, expected):
    inferer, network = LesionInpaintingInferer(NoiseSchedule(T), **settings), FakeNetwork()
    inferer(example(), network)
    assert inferer.num_forwards == len(network.calls) == expected


def test_network_is_called_at_the_chosen_timesteps():
    network = FakeNetwork()
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4, jump_length=2, jump_n_sample=2)(example(), network)
    assert [timesteps.tolist() for _, timesteps, _ in network.calls] == [[t] * 2 for t in (11, 8, 5, 8, 5, 2)]
    assert network.calls[0][1].dtype == torch.long


def test_intermediate_states_are_handed_out_with_their_timesteps():
    states = []
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        num_inference_steps=4,
        jump_length=2,
        jump_n_sample=2,
        on_step=lambda step, t, x: states.append((step, t, x)),
    )
    inputs = example()
    result = inferer(inputs, FakeNetwork())
    assert [step for step, _, _ in states] == list(range(9))
    assert [t for _, t, _ in states] == [11, 8, 5, 2, 5, 8, 5, 2, -1]
    assert all(x.shape == (2, 1, *GRID) for _, _, x in states)
    assert torch.equal(states[-1][2], result)


@pytest.mark.parametrize("classes", [1, 2])
def test_diffused_context_shows_the_network_the_state_alone(classes):
    inputs = example(classes=classes)
    x_t = torch.randn(2, classes, *GRID)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context="diffused")
    assert torch.equal(inferer.network_input(x_t, inputs[:, :1], inputs[:, 1:]), x_t)


@pytest.mark.parametrize("classes", [1, 2])
def test_clean_context_shows_the_true_background_around_the_state_and_the_masks(classes):
    inputs = example(classes=classes)
    image, masks = inputs[:, :1], inputs[:, 1:]
    x_t = torch.randn(2, classes, *GRID)
    seen = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context="clean").network_input(
        x_t, image, masks
    )
    assert seen.shape == (2, 1 + classes, *GRID)
    assert torch.equal(seen[:, 1:], masks)
    for i in range(classes):
        inside = masks[:, i] > 0
        assert torch.equal(seen[:, 0][inside], x_t[:, i][inside])
    outside = masks.sum(dim=1) == 0
    assert torch.equal(seen[:, 0][outside], image[:, 0][outside])


@pytest.mark.parametrize("context", CONTEXTS)
def test_sampling_shows_the_network_what_network_input_says(context):
    """The background the network sees is noised to the state's own level (diffused) or the image's (clean)."""
    inputs, network, constant = example(), FakeNetwork(), 0.5
    inferer = LesionInpaintingInferer(
        NoiseSchedule(T),
        context=context,
        num_inference_steps=4,
        noise_fn=lambda like: torch.full_like(like, constant),
    )
    inferer(inputs, network)
    image, outside = inputs[:, :1], inputs[:, 1:] == 0
    for seen, timesteps, _ in network.calls[1:]:
        abar = NoiseSchedule(T).alpha_bar(int(timesteps[0]))
        expected = math.sqrt(abar) * image + math.sqrt(1 - abar) * constant if context == "diffused" else image
        torch.testing.assert_close(seen[:, :1][outside], expected[outside], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("classes", [1, 2])
def test_training_call_is_one_forward_at_the_given_noise_and_timesteps(context, classes):
    inputs, network = example(classes=classes), FakeNetwork(classes)
    noise, timesteps = torch.randn(2, classes, *GRID), torch.tensor([3, 10])
    condition = histograms(classes=classes)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=classes, context=context)
    prediction = inferer(inputs, network, noise=noise, timesteps=timesteps, condition=condition)

    abar = torch.tensor([NoiseSchedule(T).alpha_bar(t) for t in (3, 10)]).view(-1, 1, 1, 1, 1)
    image, masks = inputs[:, :1], inputs[:, 1:]
    x_t = abar.sqrt() * image.expand_as(noise) + (1 - abar).sqrt() * noise
    seen = x_t
    if context == "clean":
        seen = torch.cat([one_image(x_t, image, masks), masks], dim=1)
    torch.testing.assert_close(prediction, FakeNetwork(classes)(seen, timesteps, condition))
    (called,) = network.calls
    torch.testing.assert_close(called[0], seen)
    assert torch.equal(called[1], timesteps)
    assert torch.equal(called[2], condition)


def test_training_call_keeps_the_gradient():
    network = Convolution(2)
    inferer = LesionInpaintingInferer(NoiseSchedule(T))
    inferer(example(), network, noise=torch.randn(2, 1, *GRID), timesteps=torch.tensor([1, 2])).sum().backward()
    assert network.layer.weight.grad.abs().sum() > 0


def test_training_call_without_noise_is_refused():
    with pytest.raises(ValueError, match="noise"):
        LesionInpaintingInferer(NoiseSchedule(T))(example(), FakeNetwork(), timesteps=torch.tensor([1, 2]))


# ----------------------------------------------------------------------------------------- condition and guidance


def test_guidance_is_null_plus_scale_times_difference():
    inputs, condition, scale = example(), histograms(), 2.5

    class GuidedByHand(FakeNetwork):
        def forward(self, x, timesteps, context=None):
            conditional = FakeNetwork.forward(self, x, timesteps, context)
            null = FakeNetwork.forward(self, x, timesteps, None)
            return null + scale * (conditional - null)

    settings = {"num_inference_steps": 4, "clip_x_0": False}
    guided = LesionInpaintingInferer(NoiseSchedule(T), guidance_scale=scale, **settings)
    plain = LesionInpaintingInferer(NoiseSchedule(T), **settings)
    result = guided(inputs, FakeNetwork(), condition=condition, seeds=[1, 2])
    expected = plain(inputs, GuidedByHand(), condition=condition, seeds=[1, 2])
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
    unguided = plain(inputs, FakeNetwork(), condition=condition, seeds=[1, 2])
    assert not torch.allclose(result, unguided, atol=1e-2)


def test_guidance_doubles_the_calls_only_where_there_is_a_condition():
    inputs = example()
    for scale, condition, calls in ((1.0, histograms(), 3), (2.0, histograms(), 6), (2.0, None, 3)):
        network = FakeNetwork()
        LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=3, guidance_scale=scale)(
            inputs, network, condition=condition
        )
        assert len(network.calls) == calls


def test_default_condition_is_used_where_the_call_gives_none():
    inputs, condition = example(), histograms(samples=1)[0]
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=2, condition=condition)
    network = FakeNetwork()
    inferer(inputs, network)
    assert all(torch.equal(context, torch.stack([condition, condition])) for _, _, context in network.calls)
    network, own = FakeNetwork(), histograms()
    inferer(inputs, network, condition=own)
    assert all(torch.equal(context, own) for _, _, context in network.calls)


# ----------------------------------------------------------------------------------------- in MONAI's engines


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_paints_inside_supervised_evaluator_as_when_called_bare(batch_size):
    inputs, condition, seeds = example(samples=3), histograms(samples=3), [21, 22, 2**62 + 1]
    items = [
        {
            "image": MetaTensor(inputs[k, :1]),
            "label": MetaTensor(inputs[k, 1:]).byte(),
            "histogram": condition[k],
            "seed": seeds[k],
        }
        for k in range(3)
    ]
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=4)
    outputs = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=batch_size),
        network=FakeNetwork(),
        prepare_batch=LesionSamplingPrepareBatch(),
        inferer=inferer,
        decollate=False,
    )
    evaluator.add_event_handler("ITERATION_COMPLETED", lambda engine: outputs.append(engine.state.output["pred"]))
    evaluator.run()
    painted = torch.cat([torch.as_tensor(output) for output in outputs])
    expected = inferer(inputs, FakeNetwork(), condition=condition, seeds=seeds)
    torch.testing.assert_close(torch.Tensor(painted), expected, rtol=1e-5, atol=1e-6)
    assert_background_untouched(torch.Tensor(painted), inputs)


def test_progress_bar_counts_the_forwards(capsys):
    inputs = example(samples=1)
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=7, progress=True)(inputs, FakeNetwork())
    shown = capsys.readouterr().err
    assert "painting" in shown
    assert "/7" in shown
    LesionInpaintingInferer(NoiseSchedule(T), num_inference_steps=7)(inputs, FakeNetwork())
    assert capsys.readouterr().err == ""


# ----------------------------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": T + 1}, "num_inference_steps"),
        ({"context": "noisy"}, "context"),
        ({"jump_length": 0}, "jump_length"),
        ({"jump_n_sample": 0}, "jump_n_sample"),
        ({"num_classes": 0}, "num_classes"),
        pytest.param({"prediction_type": "noise"}, "prediction_type"),
        pytest.param({"amp_dtype": "bf16"}, "amp_dtype"),
    ],
)
def test_bad_setting_is_refused_by_name_when_the_inferer_is_made(settings, named):
    with pytest.raises(ValueError, match=named):
        LesionInpaintingInferer(NoiseSchedule(T), **settings)


def test_masks_for_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="3 channels in all, got 2"):
        LesionInpaintingInferer(NoiseSchedule(T), num_classes=2)(example(classes=1), FakeNetwork(2))


def test_overlapping_masks_are_refused_before_any_forward():
    inputs, network = example(classes=2), FakeNetwork(2)
    inputs[:, 2] = inputs[:, 1]
    with pytest.raises(ValueError, match="overlap"):
        LesionInpaintingInferer(NoiseSchedule(T), num_classes=2, num_inference_steps=2)(inputs, network)
    assert not network.calls


def test_texture_guidance_makes_a_deaf_network_obey_the_request():
    """A network that always answers with the same x_0, whatever it is asked for."""
    schedule = NoiseSchedule(20)

    def deaf(x, timesteps, context=None):
        return torch.zeros_like(x[:, :1])

    image, mask = torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8)
    mask[..., 2:6, 2:6, 2:6] = 1
    request = torch.zeros(1, 1, 16)
    request[..., 11] = 1
    settings = {"prediction_type": "sample", "num_inference_steps": 4}
    inputs = torch.cat([image, mask], dim=1)
    means = []
    for strength in (0.0, 1.0):
        inferer = LesionInpaintingInferer(schedule, texture_guidance=strength, **settings)
        painted = inferer(inputs, deaf, condition=request, seeds=[1])
        assert torch.equal(painted[mask == 0], image[mask == 0])
        means.append(painted[mask > 0].mean().item())
    assert means[0] == pytest.approx(0, abs=1e-6)
    assert means[1] == pytest.approx(11.5 / 8 - 1, abs=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_texture_guidance_outside_its_range_is_refused(strength):
    with pytest.raises(InputError, match="texture_guidance"):
        LesionInpaintingInferer(NoiseSchedule(20), texture_guidance=strength)


# ------------------------------------------------------------------------------------------ published blending


def seen_by_the_network(classes: int, blending: str) -> tuple[list[tuple[int, torch.Tensor]], torch.Tensor]:
    """What a network that predicts 0 sees along a walk with jumps (timestep, x), and the masks (1, classes, ...)."""
    masks = torch.zeros(1, classes, 4, 4, 6)
    for i in range(classes):
        masks[:, i, 1:3, 1:3, 1 + 2 * i : 3 + 2 * i] = 1
    seen = []

    def network(x, timesteps, context=None):
        seen.append((int(timesteps[0]), x))
        return torch.zeros_like(x)

    inferer = LesionInpaintingInferer(
        NoiseSchedule(20),
        num_classes=classes,
        context="diffused",
        blending=blending,
        num_inference_steps=20,
        jump_length=2,
        jump_n_sample=2,
        noise_fn=lambda like: torch.full_like(like, 0.5),
    )
    image = torch.full((1, 1, 4, 4, 6), 0.25)
    painted = inferer(torch.cat([image, masks], dim=1), network)
    outside = ~(masks > 0).any(dim=1, keepdim=True)
    assert torch.equal(painted[outside], image[outside])
    assert len(seen) == inferer.num_forwards
    return seen, masks


def noised_background(t: int) -> float:
    a, b = (float(x) for x in NoiseSchedule(20).coefficients(torch.tensor([t]), torch.zeros(1)))
    return a * 0.25 + b * 0.5


@pytest.mark.parametrize("classes", [1, 2])
def test_published_blending_shows_the_background_at_the_network_s_own_level_even_after_a_jump(classes):
    seen, masks = seen_by_the_network(classes, "published")
    outside = ~(masks > 0).any(dim=1, keepdim=True).expand_as(masks)
    for t, x in seen:
        assert x[outside].numpy() == pytest.approx(noised_background(t), abs=1e-6)


def test_published_blending_leaves_every_channel_free_in_the_lesions_of_all_classes():
    for blending, other_is_background in (("paper", True), ("published", False)):
        seen, masks = seen_by_the_network(2, blending)
        t, x = seen[1]  # after the first step, before any jump
        in_the_other_s_lesion = x[0, 0][masks[0, 1] > 0]
        distance = (in_the_other_s_lesion - noised_background(t)).abs().max()
        assert (distance < 1e-6) == other_is_background


def test_unknown_blending_is_named():
    with pytest.raises(InputError, match="blending must be paper or published, got 'union'"):
        LesionInpaintingInferer(NoiseSchedule(20), blending="union")
