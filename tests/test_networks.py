"""The diffusion U-Net that a texture histogram steers (Eq. 5)."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
from custom_components.networks import HistogramUNet
from custom_components.schedules import NoiseSchedule

T = 50
GRID = (8, 8, 8)
PRIOR = (-0.1, 0.5)


def tiny(classes: int = 1, masks: bool = True, trained: bool = False, **settings) -> HistogramUNet:
    """``trained`` gives the weights that begin at zero some values, so that every path of the network acts."""
    torch.manual_seed(0)
    network = HistogramUNet(
        **{
            "in_channels": classes * (1 + masks),
            "out_channels": classes,
            "channels": (8, 16),
            "norm_num_groups": 4,
            "num_head_channels": 8,
            "context_dim": 8,
            "num_train_timesteps": T,
            "prior_mean": PRIOR[0],
            "prior_std": PRIOR[1],
            **settings,
        }
    )
    if trained:
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def bump(centre: float, width: float = 2.0) -> np.ndarray:
    values = np.exp(-0.5 * ((np.arange(16) - centre) / width) ** 2)
    return values / values.sum()


def moments(histogram: np.ndarray) -> tuple[float, float]:
    """Mean and variance of the density that is flat within each bin, by sampling it finely."""
    points = -1 + (np.arange(16 * 1000) + 0.5) / 8000
    density = np.repeat(histogram, 1000) / 1000
    mean = (points * density).sum()
    return mean, ((points - mean) ** 2 * density).sum()


def state(samples: int = 2, channels: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, channels, *GRID, generator=torch.Generator().manual_seed(seed))


def as_context(*rows: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.stack(rows), dtype=torch.float32).unsqueeze(1)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("patch_size", [1, 2])
def test_output_has_one_channel_for_each_class_on_the_input_s_grid(classes, masks, patch_size):
    network = tiny(classes, masks, patch_size=patch_size)
    x = torch.randn(2, classes * (1 + masks), 8, 12, 4)
    with torch.no_grad():
        assert network(x, torch.tensor([0, 9]), torch.rand(2, classes, 16)).shape == (2, classes, 8, 12, 4)


@pytest.mark.parametrize("depth", [10, 5, 1])
@pytest.mark.parametrize("levels", [2, 3])
def test_stack_of_any_number_of_slices_goes_through_an_in_plane_network(depth, levels):
    network = tiny(2, in_channels=3, in_plane=True, channels=(8,) * levels, attention_levels=(False,) * levels)
    x = torch.randn(1, 3, 16, 8, depth)
    with torch.no_grad():
        assert network(x, torch.tensor([9]), torch.rand(1, 2, 16)).shape == (1, 2, 16, 8, depth)


@pytest.mark.parametrize(("in_plane", "expected"), [(True, [(4, 8, 10), (2, 4, 10)]), (False, [(4, 8, 6), (2, 4, 3)])])
def test_in_plane_network_halves_the_first_two_axes_only(in_plane, expected):
    depth = expected[0][2] if in_plane else 12
    network, sizes = tiny(in_plane=in_plane), []
    network.unet.conv_in.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[2:])))
    network.unet.middle_block.register_forward_hook(lambda module, given, out: sizes.append(tuple(out.shape[2:])))
    with torch.no_grad():
        network(torch.randn(1, 2, 8, 16, depth), torch.tensor([9]))
    assert sizes == expected


def test_slices_of_an_in_plane_network_know_their_neighbours():
    network = tiny(in_plane=True, trained=True)
    x = torch.zeros(1, 2, 8, 8, 5)
    bright = x.clone()
    bright[..., 2] = 1
    with torch.no_grad():
        change = network(bright, torch.tensor([9])) - network(x, torch.tensor([9]))
    assert (change.abs().amax(dim=(0, 1, 2, 3)) > 1e-6).all()


def test_crop_that_cannot_be_halved_is_told_with_what_would_do():
    network = tiny(in_plane=True, channels=(8, 8, 8), attention_levels=(False,) * 3)
    for size in ((72, 64, 10), (8, 8, 5), (16, 8, 1)):
        network.check_size(size)
    for size in ((68, 64, 10), (64, 68, 10), (0, 8, 5), (8, 8, 0)):
        with pytest.raises(InputError, match=re.escape(f"multiples of [8, 8, 1], got {list(size)}")):
            network.check_size(size)
    cubes = tiny()
    cubes.check_size((8, 4, 12))
    for size in ((8, 8, 10), (6, 8, 8)):
        with pytest.raises(InputError, match=re.escape(f"multiples of 4, got {list(size)}")):
            cubes.check_size(size)


def test_classes_that_share_one_noisy_image_all_start_from_it():
    """One state channel: the untrained network expects, of every class, the velocity that the shared state gives."""
    x, t = torch.randn(1, 3, *GRID), torch.tensor([20])
    context = torch.cat([as_context(bump(2)), as_context(bump(13))], dim=1)
    with torch.no_grad():
        velocity = tiny(2, in_channels=3, state_channels=1)(x, t, context).numpy()
    abar = NoiseSchedule(T).alpha_bar(20)
    a, b = np.sqrt(abar), np.sqrt(1 - abar)
    for i, (m, variance) in enumerate(map(moments, (bump(2), bump(13)))):
        expected = (a * b * (1 - variance) * x[0, 0].numpy() - b * m) / (abar * variance + b * b)
        np.testing.assert_allclose(velocity[0, i], expected, rtol=1e-3, atol=1e-4)


def test_classes_with_a_noisy_image_each_start_from_their_own():
    x, t = torch.randn(1, 2, *GRID), torch.tensor([20])
    with torch.no_grad():
        velocity = tiny(2, masks=False, state_channels=2)(x, t).numpy()
    abar, (m, std) = NoiseSchedule(T).alpha_bar(20), PRIOR
    a, b = np.sqrt(abar), np.sqrt(1 - abar)
    expected = (a * b * (1 - std**2) * x.numpy() - b * m) / (abar * std**2 + b * b)
    np.testing.assert_allclose(velocity, expected, rtol=1e-3, atol=1e-4)


def test_fine_stage_adds_nothing_before_it_is_trained_and_its_share_after():
    x, t = state(), torch.tensor([3, 40])
    without = tiny(trained=True, fine_channels=0)
    network = tiny(fine_channels=4)
    missing = network.load_state_dict(without.state_dict(), strict=False).missing_keys
    assert all(key.startswith("fine.") for key in missing)
    with torch.no_grad():
        assert torch.equal(network(x, t), without(x, t))
        torch.nn.init.normal_(network.fine.conv_out.weight, std=0.1)
        assert (network(x, t) - without(x, t)).abs().max() > 1e-3


def test_fine_stage_knows_the_timestep_and_the_neighbouring_voxels():
    """With the U-Net silent, a change of one voxel reaches its neighbours through the fine stage alone."""
    network = tiny(trained=True, fine_channels=4)
    with torch.no_grad():
        for parameter in network.unet.out.parameters():
            parameter.zero_()
        x = torch.zeros(1, 2, *GRID)
        bright = x.clone()
        bright[0, 0, 4, 4, 4] = 1

        def spread(t):
            change = (network(bright, torch.tensor([t])) - network(x, torch.tensor([t])))[0, 0]
            change[4, 4, 4] = 0
            return change

        early, late = spread(5), spread(45)
    assert early[4, 4, 1] != 0  # three convolutions reach three voxels far
    assert early[4, 4, 0] == 0
    ratio = late[early != 0] / early[early != 0]
    assert ratio.std() > 0.01


def less_box_mean(volume: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Each voxel less the mean of the box around it, of the box's part within the grid at the border."""
    out = np.empty_like(volume)
    for place in np.ndindex(volume.shape):
        box = tuple(slice(max(0, p - n // 2), p + n // 2 + 1) for p, n in zip(place, size, strict=True))
        out[place] = volume[place] - volume[box].mean()
    return out


@pytest.mark.parametrize("in_plane", [True, False])
@pytest.mark.parametrize("classes", [1, 2])
def test_noise_estimates_are_what_the_state_differs_from_its_local_mean_in_units_of_the_noise(classes, in_plane):
    """One for each scale and noisy image; the last channel is a mask and has none."""
    settings = {"in_channels": classes + 1, "state_channels": classes, "in_plane": in_plane, "fine_channels": 4}
    network = tiny(classes, noise_scales=(3, 7), **settings)
    x, b = state(channels=classes + 1), torch.tensor([0.25, 0.8])
    estimates = network.noise_estimates(x, b.view(-1, 1, 1, 1, 1))
    assert len(estimates) == 2
    for scale, found in zip((3, 7), estimates, strict=True):
        assert found.shape == (2, classes, *GRID)
        size = (scale, scale, 1 if in_plane else scale)
        for n, c in np.ndindex(2, classes):
            expected = less_box_mean(x[n, c].double().numpy(), size) / float(b[n])
            np.testing.assert_allclose(found[n, c].numpy(), expected, atol=1e-4)


def test_fine_stage_sees_the_noise_estimates_of_every_scale():
    network = tiny(trained=True, in_plane=True, fine_channels=4, noise_scales=(3, 7))
    assert network.fine.conv_in.in_channels == 2 + 1 + 2
    x, t, seen = state(), torch.tensor([3, 40]), []
    network.fine.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        before = network(x, t)
        b = (1 - NoiseSchedule(T).alphas_cumprod[t]).sqrt().float().view(-1, 1, 1, 1, 1)
        for number, estimate in enumerate(network.noise_estimates(x, b)):
            torch.testing.assert_close(seen[0][:, 3 + number : 4 + number], estimate)
            weight = network.fine.conv_in.weight
            kept = weight[:, 3 + number].clone()
            weight[:, 3 + number] = 0
            assert (network(x, t) - before).abs().max() > 1e-4
            weight[:, 3 + number] = kept


@pytest.mark.parametrize("scales", [(4,), (3, 6), (1,), (-3,)])
def test_noise_scales_that_have_no_middle_voxel_or_no_neighbour_are_refused(scales):
    with pytest.raises(InputError, match=re.escape(f"noise_scales must be odd and at least 3, got {list(scales)}.")):
        tiny(noise_scales=scales)


def test_painted_lesion_depends_on_the_noise_estimates():
    """The whole reverse process, with the weights that read the estimates silenced and not."""
    network = tiny(2, in_channels=3, trained=True, in_plane=True, fine_channels=4, noise_scales=(3, 7))
    masks = torch.zeros(1, 2, *GRID)
    masks[0, 0, 2:5, 2:6, 2:6] = 1
    masks[0, 1, 5:7, 2:6, 2:6] = 1
    image = 0.3 * state(1, 1).clamp(-1, 1)
    inferer = LesionInpaintingInferer(NoiseSchedule(T), num_classes=2, num_inference_steps=2)
    with torch.no_grad():
        with_estimates = inferer(torch.cat([image, masks], dim=1), network)
        network.fine.conv_in.weight[:, -2:] = 0
        without = inferer(torch.cat([image, masks], dim=1), network)
    inside = masks.sum(dim=1, keepdim=True) > 0
    assert torch.equal(with_estimates[~inside], image[~inside])
    for part in masks.bool().unbind(dim=1):
        assert (with_estimates - without)[part.unsqueeze(1)].abs().max() > 1e-4


def test_no_context_is_the_null_condition():
    network, x, t = tiny(trained=True), state(), torch.tensor([3, 40])
    with torch.no_grad():
        assert torch.equal(network(x, t), network(x, t, torch.zeros(2, 1, 16)))


@pytest.mark.parametrize("classes", [1, 2])
def test_context_may_be_flat(classes):
    network, x, t = tiny(classes, trained=True), state(channels=2 * classes), torch.tensor([3, 40])
    context = torch.rand(2, classes, 16).softmax(dim=-1)
    with torch.no_grad():
        assert torch.equal(network(x, t, context), network(x, t, context.reshape(2, classes * 16)))


@pytest.mark.parametrize("t", [0, 7, 30, 49])
def test_untrained_network_gives_the_velocity_that_the_histogram_alone_expects(t):
    """v_h = (a b (1 - s^2) x_t - b m) / (a^2 s^2 + b^2), with m and s of the histogram or, without one, the prior's."""
    histograms = [bump(4), bump(11, 1.0)]
    x = state(samples=3)
    context = torch.cat([as_context(*histograms), torch.zeros(1, 1, 16)])
    with torch.no_grad():
        velocity = tiny()(x, torch.full((3,), t), context).numpy()
    abar = NoiseSchedule(T).alpha_bar(t)
    a, b = np.sqrt(abar), np.sqrt(1 - abar)
    for k, (m, variance) in enumerate([*map(moments, histograms), (PRIOR[0], PRIOR[1] ** 2)]):
        x_t = x[k, :1].numpy()
        expected = (a * b * (1 - variance) * x_t - b * m) / (abar * variance + b * b)
        np.testing.assert_allclose(velocity[k], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("t", [5, 25, 45])
def test_untrained_estimate_is_the_gaussian_posterior_mean(t):
    """x_0 ~ N(m, s^2) seen through x_t ~ N(a x_0, b^2): precisions add up."""
    histogram = bump(10)
    m, variance = moments(histogram)
    schedule = NoiseSchedule(T)
    abar = schedule.alpha_bar(t)
    generator = torch.Generator().manual_seed(1)
    x_0 = m + np.sqrt(variance) * torch.randn(1, 1, *GRID, generator=generator)
    noise = torch.randn(1, 1, *GRID, generator=generator)
    steps = torch.tensor([t])
    x_t = schedule.add_noise(x_0, noise, steps)
    with torch.no_grad():
        velocity = tiny()(torch.cat([x_t, torch.ones_like(x_t)], dim=1), steps, as_context(histogram))
    estimate = schedule.predict_x_0(velocity, x_t, steps, "v_prediction").numpy()
    precision = 1 / variance + abar / (1 - abar)
    expected = (m / variance + np.sqrt(abar) * x_t.numpy() / (1 - abar)) / precision
    np.testing.assert_allclose(estimate, expected, rtol=1e-3, atol=1e-4)


def test_each_class_follows_its_own_histogram():
    x, t = torch.zeros(1, 4, *GRID), torch.tensor([45])
    with torch.no_grad():
        velocity = tiny(classes=2)(x, t, torch.cat([as_context(bump(2)), as_context(bump(13))], dim=1))
    abar = NoiseSchedule(T).alpha_bar(45)
    for i, (m, variance) in enumerate(map(moments, (bump(2), bump(13)))):
        expected = -np.sqrt(1 - abar) * m / (abar * variance + 1 - abar)
        torch.testing.assert_close(
            velocity[0, i], torch.full(GRID, expected, dtype=torch.float32), rtol=1e-3, atol=1e-4
        )


def same_moments() -> tuple[np.ndarray, np.ndarray]:
    """Two histograms with equal mean and variance but another shape: one with three peaks, one with two."""
    three, two = np.zeros(16), np.zeros(16)
    three[[3, 7, 8, 12]] = 0.32, 0.18, 0.18, 0.32
    spread = (three * (np.arange(16) - 7.5) ** 2).sum()
    share = (spread - 2.5**2) / (4.5**2 - 2.5**2)
    two[[3, 12]], two[[5, 10]] = share / 2, (1 - share) / 2
    assert moments(three) == pytest.approx(moments(two), abs=1e-12)
    return three, two


@pytest.mark.parametrize("path", ["both", "cross_attention", "embedding"])
def test_histogram_s_shape_acts_through_attention_and_through_the_embedding(path):
    """Beyond its moments: with each of the two ways cut, the other one still tells the histograms apart."""
    network, x, t = tiny(trained=True), state(samples=1), torch.tensor([25])
    with torch.no_grad():
        if path == "cross_attention":
            network.unet.class_embedding[-1].weight.zero_()
        if path == "embedding":
            network.bin_height.weight.zero_()
        first, second = (network(x, t, as_context(h)) for h in same_moments())
    assert (first - second).abs().max() > 1e-4


def test_different_histograms_give_different_outputs_without_training():
    x, t = state(samples=1), torch.tensor([25])
    with torch.no_grad():
        dark, bright, null = (tiny()(x, t, context) for context in (as_context(bump(3)), as_context(bump(12)), None))
    assert (dark - bright).abs().mean() > 0.1
    assert (dark - null).abs().mean() > 0.05


def test_mask_and_surroundings_reach_the_output():
    network, x, t = tiny(trained=True), state(samples=1), torch.tensor([25])
    other = x.clone()
    other[:, 1] = 0
    with torch.no_grad():
        assert (network(x, t) - network(other, t)).abs().max() > 1e-4


def test_every_parameter_is_trained():
    network = tiny(trained=True).train()
    network(state(), torch.tensor([3, 40]), as_context(bump(4), bump(9))).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_samples_of_a_batch_do_not_mix():
    network, x, t = tiny(trained=True), state(), torch.tensor([3, 40])
    context = as_context(bump(4), bump(9))
    with torch.no_grad():
        together = network(x, t, context)
        for k in range(2):
            alone = network(x[k : k + 1], t[k : k + 1], context[k : k + 1])
            torch.testing.assert_close(together[k : k + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_network_gives_the_same_output():
    network = tiny(trained=True)
    example = (state(), torch.tensor([3, 40]), as_context(bump(4), bump(9)))
    traced = torch.jit.trace(network, example, check_trace=False)
    other = (state(seed=1), torch.tensor([49, 0]), torch.cat([as_context(bump(12)), torch.zeros(1, 1, 16)]))
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(traced(*other), network(*other))


def test_output_is_finite_at_every_timestep_under_bfloat16():
    network, t = tiny(trained=True), torch.tensor([0, T - 1])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(network(state(), t, as_context(bump(4), bump(9)))).all()


def test_tables_are_not_stored_with_the_weights():
    assert not {"alphas_cumprod", "bin_centres"} & set(tiny().state_dict())
