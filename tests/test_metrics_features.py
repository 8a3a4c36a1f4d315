"""Features of lesions: what moves them and what does not, and networks that the user names."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_lesions import made_up_crops
from scipy import stats

from custom_components.errors import InputError
from custom_components.metrics.features import FeatureSpace, choose_features
from custom_components.metrics.lesion_features import LESION_FEATURES, lesion_features


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return made_up_crops(tmp_path_factory.mktemp("set"), ["a", "b", "c"], [1, 2, 3])


def of(crop) -> dict[str, float]:
    return dict(zip(LESION_FEATURES, lesion_features(crop), strict=True))


def test_first_order_features_equal_those_of_the_voxels_in_the_mask(crops):
    values, found = crops[0].tight_values[crops[0].tight_mask], of(crops[0])
    assert found["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert found["deviation"] == pytest.approx(values.std(), rel=1e-5)
    assert found["skewness"] == pytest.approx(stats.skew(values), abs=1e-4)
    counts, _ = np.histogram(np.clip(values, -1000, 400 - 1e-3), 16, (-1000, 400))
    assert found["entropy"] == pytest.approx(stats.entropy(counts, base=2), abs=1e-6)
    assert found["contrast"] == pytest.approx(values.mean() + 850, abs=15)


def test_volume_is_that_of_the_mask(crops):
    assert np.exp(of(crops[0])["log_volume"]) == pytest.approx(crops[0].tight_mask.sum())


def test_brightness_moves_the_values_and_leaves_their_spread_and_the_shape(crops):
    brighter = replace(crops[0], tight_values=crops[0].tight_values + 50)
    before, after = of(crops[0]), of(brighter)
    moved = {name for name in before if abs(after[name] - before[name]) > 1e-3}
    assert after["mean"] == pytest.approx(before["mean"] + 50)
    assert {"mean", "percentile_10", "percentile_90"} <= moved
    assert not moved & {"deviation", "skewness", "contrast", "log_volume", "sphericity", "elongation"}


def test_turned_lesion_has_the_same_features(crops):
    values, mask = (np.rot90(v, axes=(0, 2)) for v in (crops[1].tight_values, crops[1].tight_mask))
    turned = replace(crops[1], tight_values=values, tight_mask=mask)
    np.testing.assert_allclose(lesion_features(turned), lesion_features(crops[1]), rtol=1e-3, atol=1e-4)


def test_texture_equals_that_of_pairs_counted_one_by_one(crops):
    crop, found = crops[2], of(crops[2])
    levels = np.clip((crop.tight_values + 1000) / 1400 * 16, 0, 15).astype(int)
    pairs = []
    steps = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)]
    for place in np.argwhere(crop.tight_mask):
        for step in steps:
            other = tuple(place + step)
            if crop.tight_mask[other]:
                # The planes are looked at in turn, so that steps along an axis, which two of them hold, count twice.
                pairs += [(levels[tuple(place)], levels[other])] * (2 if np.abs(step).sum() == 1 else 1)
    first, second = np.array(pairs).T
    assert found["glcm_contrast"] == pytest.approx(((first - second) ** 2).mean())
    assert found["glcm_homogeneity"] == pytest.approx((1 / (1 + (first - second) ** 2)).mean())
    both = np.concatenate([first, second]), np.concatenate([second, first])
    assert found["glcm_correlation"] == pytest.approx(np.corrcoef(*both)[0, 1])


def test_lesion_of_one_voxel_has_features(crops):
    mask = np.zeros((7, 7, 7), bool)
    mask[3, 3, 3] = True
    single = replace(crops[0], tight_mask=mask, tight_values=np.full((7, 7, 7), -700.0, np.float32))
    assert np.isfinite(lesion_features(single)).all()


class Pooled(torch.nn.Module):
    """Mean of the crop, and its mean square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x * x], dim=1)


def expected(crops):
    scaled = np.stack([np.clip((crop.values + 1000) / 700 - 1, -1, 1).ravel() for crop in crops])
    return np.stack([scaled.mean(axis=1), (scaled**2).mean(axis=1)], axis=1)


def test_torchscript_network_gives_the_features(crops, tmp_path):
    path = tmp_path / "network.pt"
    torch.jit.trace(Pooled(), torch.zeros(1, 1, 20, 20, 20)).save(str(path))
    np.testing.assert_allclose(choose_features(str(path))(crops), expected(crops), atol=1e-5)


def test_callable_of_a_module_gives_the_features(crops, tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text("import torch\ndef twice(x):\n    return torch.cat([x, x * x], dim=1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        np.testing.assert_allclose(choose_features("my_features:twice")(crops), expected(crops), atol=1e-5)
    finally:
        sys.modules.pop("my_features", None)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.pt", "must be 'lesion', a TorchScript file or"),
        ("no_such_module:thing", "cannot import features no_such_module:thing"),
        ("math:nothing", "cannot import features math:nothing"),
        ("math:pi", "must be a function or a network, it is float"),
    ],
)
def test_features_that_cannot_be_had_are_named(name, sentence):
    with pytest.raises(InputError, match=sentence):
        choose_features(name)


@pytest.mark.parametrize("name", ["lesion", "inception", "resnet50", "radimagenet:resnet50", "https://host/network.pt"])
def test_nothing_is_fetched(name, monkeypatch):
    """A known network's name or an address is no invitation to download it."""

    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    for function in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, function, refuse)
    if name == "lesion":
        assert choose_features(name).title == "first-order, shape and texture features"
    else:
        with pytest.raises(InputError, match=r"must be 'lesion', a TorchScript|cannot import features"):
            choose_features(name)


def test_file_that_is_no_network_is_named(tmp_path):
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(InputError, match=r"text\.pt is no TorchScript file"):
        choose_features(str(tmp_path / "text.pt"))


@pytest.mark.parametrize("name", ["math:sqrt", "torch:mean"])
def test_function_that_gives_no_features_is_named(name, crops):
    with pytest.raises(InputError, match=f"features of {name}: it"):
        choose_features(name)(crops)


def test_space_standardises_by_its_set_and_leaves_out_what_never_differs():
    features = np.random.default_rng(0).normal([3, 7, 100], [2, 0, 50], size=(40, 3))
    space = FeatureSpace(features)
    found = space(features)
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1)
    np.testing.assert_allclose(
        space(features + np.array([2, 5, 0])) - found, [[2 / features[:, 0].std(ddof=1), 0]] * 40
    )


def test_components_are_those_of_most_variance():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(50, 1))
    features = np.hstack([common + 0.1 * rng.normal(size=(50, 3)), rng.normal(size=(50, 1))])
    found = FeatureSpace(features, components=2)(features)
    variances = np.linalg.eigvalsh(np.corrcoef(features.T))[::-1]
    np.testing.assert_allclose(found.var(axis=0, ddof=1), variances[:2])
    with pytest.raises(InputError, match="components must be a whole number from 1 to 4 here, got 5"):
        FeatureSpace(features, components=5)
