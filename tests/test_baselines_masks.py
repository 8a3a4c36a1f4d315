"""Hand-Crafted masks: the same contract as the diffusion's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom_components.baselines import HandCraftedMasks
from custom_components.masks import bounding_sphere, sphere_channel


def inputs(cut: bool = False) -> torch.Tensor:
    sphere = sphere_channel((11.5, 11.5, 11.5), 9.0, np.eye(4), (24, 24, 24))
    boundary = np.ones_like(sphere)
    if cut:
        boundary[:12] = 0
    return torch.from_numpy(np.stack([sphere, boundary]))[None].expand(3, -1, -1, -1, -1).clone()


def test_shape_fills_its_control_sphere():
    for values in HandCraftedMasks()(inputs(), seeds=[1, 2, 3]):
        centre, radius = bounding_sphere(values[0].numpy() > 0, np.eye(4))
        assert radius == pytest.approx(9, abs=1)
        np.testing.assert_allclose(centre, [11.5] * 3, atol=1)


def test_shape_depends_on_its_seed_alone_and_shapes_differ():
    three = HandCraftedMasks()(inputs(), seeds=[1, 2, 3])
    again = HandCraftedMasks()(inputs()[:1], seeds=[2])
    assert torch.equal(three[1], again[0])
    assert not torch.equal(three[0] > 0, three[1] > 0)
    assert not torch.equal(HandCraftedMasks(seed=1)(inputs()[:1]), HandCraftedMasks(seed=2)(inputs()[:1]))


def test_nothing_lies_outside_the_boundary():
    values = HandCraftedMasks()(inputs(cut=True), seeds=[1, 2, 3])
    assert (values[:, :, :12] == -1).all()
    assert (values > 0).any()


def test_second_class_lies_in_the_first_one_s_hull_and_does_not_overlap_it():
    values = HandCraftedMasks(num_classes=2)(inputs(), seeds=[1, 2, 3]) > 0
    assert not (values[:, 0] & values[:, 1]).any()
    assert values[:, 1].any()
    assert values[:, 1].sum() < values[:, 0].sum()
