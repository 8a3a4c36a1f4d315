"""Multi-channel decomposition and combination (Eq. 6)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom_components.combiners import MultiChannelCombiner

GRID = (5, 4, 3)


def disjoint_masks(classes: int, samples: int = 2) -> torch.Tensor:
    """Every voxel belongs to one class or to none."""
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, classes + 1, (samples, *GRID)))
    return torch.stack([labels == i + 1 for i in range(classes)], dim=1).float()


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_decomposition_gives_the_image_once_for_each_class(classes):
    image = torch.rand(2, 1, *GRID)
    channels = MultiChannelCombiner(classes).decompose(image)
    assert channels.shape == (2, classes, *GRID)
    for i in range(classes):
        assert torch.equal(channels[:, i], image[:, 0])


def test_split_parts_image_and_masks():
    inputs = torch.rand(2, 4, *GRID)
    image, masks = MultiChannelCombiner(3).split(inputs)
    assert torch.equal(image, inputs[:, :1])
    assert torch.equal(masks, inputs[:, 1:])


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_combination_is_the_sum_of_masked_channels_over_the_background(classes):
    rng = np.random.default_rng(1)
    channels = rng.normal(size=(2, classes, *GRID)).astype(np.float32)
    background = rng.normal(size=(2, 1, *GRID)).astype(np.float32)
    masks = disjoint_masks(classes).numpy()
    expected = (channels * masks).sum(axis=1, keepdims=True) + background * (1 - masks.sum(axis=1, keepdims=True))
    got = MultiChannelCombiner(classes).combine(*map(torch.tensor, (channels, masks, background)))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_what_was_decomposed_combines_to_the_same_image():
    image = torch.rand(2, 1, *GRID)
    combiner = MultiChannelCombiner(3)
    assert torch.equal(combiner.combine(combiner.decompose(image), disjoint_masks(3), image), image)


def test_background_is_bit_exact_whatever_the_channels_hold_there():
    masks = disjoint_masks(2)
    outside = masks.sum(dim=1, keepdim=True) == 0
    background = torch.rand(2, 1, *GRID)
    background[outside] = torch.tensor([-0.0, 1e-42, float("inf"), 3.0]).repeat(200)[: int(outside.sum())]
    channels = torch.full((2, 2, *GRID), float("nan"))
    channels[masks > 0] = 0.5
    result = MultiChannelCombiner(2).combine(channels, masks, background)
    assert torch.equal(result[outside].view(torch.int32), background[outside].view(torch.int32))
    assert (result[~outside] == 0.5).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_result_has_the_background_s_dtype(dtype):
    image = torch.rand(1, 1, *GRID).to(dtype)
    result = MultiChannelCombiner(1).combine(torch.rand(1, 1, *GRID), torch.ones(1, 1, *GRID), image)
    assert result.dtype == dtype


def test_overlapping_masks_are_refused():
    masks = disjoint_masks(2)
    masks[0, :, 2, 2, 2] = 1
    with pytest.raises(ValueError, match="overlap"):
        MultiChannelCombiner(2).combine(torch.zeros_like(masks), masks, torch.zeros(2, 1, *GRID))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_inputs_with_another_number_of_channels_are_refused(channels):
    with pytest.raises(ValueError, match=f"3 channels in all, got {channels}"):
        MultiChannelCombiner(2).split(torch.zeros(1, channels, *GRID))


def test_image_of_several_channels_is_refused():
    with pytest.raises(ValueError, match="1 channel, got 2"):
        MultiChannelCombiner(2).decompose(torch.zeros(1, 2, *GRID))


def test_no_class_at_all_is_refused():
    with pytest.raises(ValueError, match="num_classes"):
        MultiChannelCombiner(0)
