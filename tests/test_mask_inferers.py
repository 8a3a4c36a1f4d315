"""Mask diffusion: a lesion inside the boundary, none outside, by the control sphere (section 3.3)."""

from __future__ import annotations

import pytest
import torch

from custom_components.errors import InputError
from custom_components.mask_inferers import MaskDiffusionInferer
from custom_components.schedules import NoiseSchedule

T = 12
GRID = (8, 8, 6)


class FollowsTheSphere(torch.nn.Module):
    """Predicts x_0 = the sphere channel in every class; remembers what it saw."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.seen: list[torch.Tensor] = []

    def forward(self, x, timesteps, context=None):
        self.seen.append(x.clone())
        return x[:, self.classes : self.classes + 1].expand(-1, self.classes, *x.shape[2:])


def inputs(samples: int = 2) -> torch.Tensor:
    """A ball (1 inside, -1 outside) and a boundary that cuts it in two."""
    grid = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in GRID), indexing="ij"))
    ball = ((grid - torch.tensor([4.0, 4.0, 3.0]).view(3, 1, 1, 1)) ** 2).sum(dim=0) <= 9
    boundary = torch.zeros(GRID)
    boundary[:5] = 1
    return torch.stack([2 * ball.float() - 1, boundary]).expand(samples, 2, *GRID).clone()


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("jumps", [{}, {"jump_length": 2, "jump_n_sample": 2}])
def test_nothing_is_drawn_outside_the_boundary(classes, jumps):
    given = inputs()
    inferer = MaskDiffusionInferer(NoiseSchedule(T), num_classes=classes, num_inference_steps=4, **jumps)
    drawn = inferer(given, FollowsTheSphere(classes), seeds=[1, 2])
    outside = (given[:, 1:] == 0).expand_as(drawn)
    assert (drawn[outside] == -1).all()
    assert torch.equal(drawn[~outside] > 0, given[:, :1].expand_as(drawn)[~outside] > 0)


def test_outside_the_boundary_the_network_sees_the_empty_background_at_the_state_s_level():
    given, network = inputs(), FollowsTheSphere()
    inferer = MaskDiffusionInferer(NoiseSchedule(T), num_inference_steps=4, noise_fn=torch.zeros_like)
    inferer(given, network)
    for seen, t in zip(network.seen[1:], (8, 5, 2), strict=True):
        level = -(NoiseSchedule(T).alpha_bar(t) ** 0.5)
        outside = seen[:, :1][given[:, 1:] == 0]
        torch.testing.assert_close(outside, torch.full_like(outside, level))


@pytest.mark.parametrize(("context", "channels"), [("sphere", 3), ("boundary", 4)])
def test_network_sees_the_state_the_sphere_and_where_asked_for_the_boundary(context, channels):
    given, network = inputs(), FollowsTheSphere(2)
    MaskDiffusionInferer(NoiseSchedule(T), num_classes=2, context=context, num_inference_steps=2)(given, network)
    assert all(seen.shape[1] == channels for seen in network.seen)
    assert all(torch.equal(seen[:, 2:], given[:, : channels - 2]) for seen in network.seen)


def test_training_call_is_one_forward_on_the_noised_masks():
    given, network = inputs(), FollowsTheSphere()
    masks, noise, timesteps = given[:, :1], torch.randn(2, 1, *GRID), torch.tensor([3, 10])
    MaskDiffusionInferer(NoiseSchedule(T))(given, network, masks=masks, noise=noise, timesteps=timesteps)
    (seen,) = network.seen
    torch.testing.assert_close(seen[:, :1], NoiseSchedule(T).add_noise(masks, noise, timesteps))
    with pytest.raises(ValueError, match="masks and noise"):
        MaskDiffusionInferer(NoiseSchedule(T))(given, network, noise=noise, timesteps=timesteps)


def test_seed_decides_the_mask_whatever_shares_its_batch():
    given = inputs()
    given[:, 1] = 1

    def network(x, timesteps, context=None):
        return x[:, :1] * 0.9

    inferer = MaskDiffusionInferer(NoiseSchedule(T), num_inference_steps=3)
    both = inferer(given, network, seeds=[5, 6])
    assert torch.equal(both[1:], inferer(given[1:], network, seeds=[6]))
    assert not torch.equal(both[0], both[1])


def test_guidance_by_radius_takes_a_factor_for_each_sample_over_the_logarithm_of_its_radius():
    pairs = [[2.0, 1.0], [8.0, 2.0]]
    by_radius = MaskDiffusionInferer(NoiseSchedule(T), num_inference_steps=3, shape_guidance=pairs)
    assert by_radius.guidance_factors(4, [1.0, 2.0, 4.0, 30.0]) == pytest.approx([1, 1, 1.5, 2])

    def network(x, timesteps, context=None):
        return 0.5 * x[:, :1] - 0.4

    given = torch.cat([torch.rand(2, 1, 4, 4, 4), torch.ones(2, 1, 4, 4, 4)], dim=1)
    both = by_radius(given, network, seeds=[5, 6], radii_mm=[2.0, 4.0])
    for i, factor in enumerate((1.0, 1.5)):
        alone = MaskDiffusionInferer(NoiseSchedule(T), num_inference_steps=3, shape_guidance=factor)
        torch.testing.assert_close(both[i : i + 1], alone(given[i : i + 1], network, seeds=[5 + i]))
    with pytest.raises(ValueError, match="radii of the control spheres"):
        by_radius(given, network)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"context": "organ"}, "context"),
        ({"num_classes": 0}, "num_classes"),
        ({"shape_guidance": 0}, "shape_guidance"),
        ({"shape_guidance": "strong"}, "shape_guidance"),
        ({"shape_guidance": [[5, 1.2], [3, 1.0]]}, "rising radii"),
        ({"shape_guidance": [1.2, 1.4]}, "pairs"),
    ],
)
def test_bad_setting_is_refused_by_name(settings, named):
    with pytest.raises(InputError, match=named):
        MaskDiffusionInferer(NoiseSchedule(T), **settings)


def test_other_inputs_than_sphere_and_boundary_are_refused():
    with pytest.raises(ValueError, match="control sphere and the boundary"):
        MaskDiffusionInferer(NoiseSchedule(T))(inputs()[:, :1], FollowsTheSphere())
