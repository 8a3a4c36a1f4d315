"""Published blending: the background at the network's own level, every channel free in all lesions."""

from __future__ import annotations

import pytest
import torch

from custom_components.errors import InputError
from custom_components.inferers import LesionInpaintingInferer
from custom_components.schedules import NoiseSchedule


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
