"""Hand-crafted lesion texture: what it paints, where, and around which level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from custom_components.baselines import HandCraftedTexture, NoNetwork, refuse_training
from custom_components.errors import InputError

GRID = (24, 24, 16)
LEVELS = {"mi": {"mean": [0.2, 0.4], "std": [0.1, 0.2]}, "pmo": {"mean": [-0.5, -0.3], "std": [0.05, 0.1]}}


def ball(centre, radius) -> np.ndarray:
    grid = np.indices(GRID) - np.reshape(centre, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


def example(samples: int = 1, classes: int = 2) -> torch.Tensor:
    """A dark scan with a bright lesion, of one or two classes: a shell around a core."""
    outer, inner = ball((12, 12, 8), 7), ball((12, 12, 8), 3)
    image = np.where(outer, 0.9, -0.8) + np.random.default_rng(0).normal(0, 0.05, GRID)
    masks = [outer & ~inner, inner] if classes == 2 else [outer]
    one = np.stack([image, *masks]).astype(np.float32)
    return torch.from_numpy(np.stack([one] * samples))


def texture(classes=("mi", "pmo"), **others) -> HandCraftedTexture:
    return HandCraftedTexture(classes, **{"levels": LEVELS, **others})


def test_background_is_bit_exact_outside_the_mask():
    inputs = example(2)
    painted = texture()(inputs, seeds=[0, 1])
    lesion = inputs[:, 1:].sum(dim=1, keepdim=True) > 0
    assert painted.shape == (2, 1, *GRID) and painted.dtype == inputs.dtype
    assert torch.equal(painted[~lesion], inputs[:, :1][~lesion])
    assert (painted != inputs[:, :1])[lesion].float().mean() > 0.99
    assert painted.abs().max() <= 1


def test_same_seed_gives_the_same_lesion_whatever_shares_its_batch():
    painted = texture()(example(3), seeds=[5, 6, 5])
    assert torch.equal(painted[0], painted[2]) and not torch.equal(painted[0], painted[1])
    assert torch.equal(texture()(example(1), seeds=[6])[0], painted[1])
    assert torch.equal(texture(seed=4)(example()), texture(seed=4)(example()))
    assert not torch.equal(texture(seed=4)(example()), texture(seed=5)(example()))


@pytest.mark.parametrize("seed", range(6))
def test_each_class_has_the_level_and_spread_it_was_given(seed):
    """Where the border does not soften anything, moments are those drawn, within their ranges."""
    inputs = example()
    painted = texture(softness=0)(inputs, seeds=[seed])[0, 0].numpy()
    for name, mask in zip(("mi", "pmo"), inputs[0, 1:].numpy() > 0, strict=True):
        low, high = LEVELS[name]["mean"]
        assert low - 1e-5 <= painted[mask].mean() <= high + 1e-5
        low, high = LEVELS[name]["std"]
        assert low - 1e-5 <= painted[mask].std() <= high + 1e-5


def test_levels_vary_from_lesion_to_lesion():
    inputs = example(12, classes=1)
    painted = texture(("mi",), softness=0)(inputs, seeds=range(12))
    means = [float(p[0][m[0] > 0].mean()) for p, m in zip(painted, inputs[:, 1:], strict=True)]
    assert np.ptp(means) > 0.08


def test_border_passes_softly_into_the_surroundings():
    inputs = example(classes=1)
    soft, hard = (texture(("mi",), softness=s)(inputs, seeds=[1])[0, 0].numpy() for s in (1.5, 0))
    depth = ndimage.distance_transform_edt(inputs[0, 1].numpy() > 0)
    rim, core = (depth > 0) & (depth < 1.5), depth > 4
    assert np.abs(soft - hard)[core].max() < 0.02
    assert soft[rim].mean() < hard[rim].mean() - 0.2, "the surroundings are darker"
    assert soft[rim].mean() > -0.8 + 0.2


def test_what_the_lesion_was_before_leaves_no_trace():
    inputs = example()
    healthy = inputs.clone()
    healthy[:, :1][inputs[:, 1:].sum(dim=1, keepdim=True) > 0] = -0.8
    assert torch.equal(texture()(inputs, seeds=[0]), texture()(healthy, seeds=[0]))


def test_neighbouring_voxels_are_alike_the_more_so_on_a_coarser_grid():
    inputs = example(classes=1)
    mask = ndimage.binary_erosion(inputs[0, 1].numpy() > 0)

    def correlation(coarseness: float) -> float:
        values = texture(("mi",), softness=0, smoothing=0, coarseness=[coarseness] * 2)(inputs, seeds=[2])[0, 0].numpy()
        pair = mask[1:] & mask[:-1]
        return float(np.corrcoef(values[1:][pair], values[:-1][pair])[0, 1])

    assert abs(correlation(1)) < 0.15
    assert 0.5 < correlation(2) < correlation(4)


def test_slices_of_a_thick_stack_are_apart():
    """Within a slice neighbours are alike, across slices they are not; the border between slices stays hard."""
    inputs = example(classes=1)
    values = texture(("mi",), in_plane=True, coarseness=[3, 3])(inputs, seeds=[2])[0, 0].numpy()
    mask = ndimage.binary_erosion(inputs[0, 1].numpy() > 0, iterations=2)
    for axis, alike in ((0, True), (2, False)):
        first, second = (np.moveaxis(part, axis, 0) for part in (values, mask))
        pair = second[1:] & second[:-1]
        assert (np.corrcoef(first[1:][pair], first[:-1][pair])[0, 1] > 0.5) == alike


def test_single_voxel_and_absent_classes_are_painted_or_left_out():
    inputs = example()
    inputs[:, 1:] = 0
    inputs[0, 1, 3, 3, 3] = 1
    painted = texture()(inputs, seeds=[0])
    changed = painted != inputs[:, :1]
    assert changed.sum() == 1 and 0.2 <= painted[0, 0, 3, 3, 3] <= 0.4
    inputs[:, 1:] = 0
    assert torch.equal(texture()(inputs, seeds=[0]), inputs[:, :1])


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"levels": {"mi": LEVELS["mi"]}}, "levels lack the class 'pmo'"),
        ({"levels": {**LEVELS, "pmo": {"mean": [0.3, 0.1], "std": [0, 1]}}}, "levels of class 'pmo': mean must be"),
        ({"levels": {**LEVELS, "pmo": {"mean": [0, 0.1]}}}, "levels of class 'pmo': std must be two numbers"),
        ({"levels": {**LEVELS, "mi": {"mean": [0, 0.1], "std": [-1, 1]}}}, "levels of class 'mi': std must be"),
        ({"coarseness": [0.5, 2]}, "coarseness must be two numbers"),
        ({"smoothing": -1}, "smoothing must be a number of at least 0"),
        ({"softness": "soft"}, "softness must be a number of at least 0"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(others, message):
    with pytest.raises(InputError, match=message):
        texture(**others)


def test_there_is_no_network():
    NoNetwork().check_size([7, 5, 3])
    assert not list(NoNetwork().parameters())
    with pytest.raises(InputError, match=r"takes no weights, got model\.pt"):
        NoNetwork("model.pt")
    with pytest.raises(InputError, match="no network to train"):
        refuse_training()
