"""Pictures of a comparison: which pairs they show, and sets that leave little to show."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_lesions import made_up_crops
from PIL import Image

from custom_components import set_comparison_pictures
from custom_components.metrics.memorisation import MIRRORS, Neighbours
from custom_components.set_comparison_pictures import (
    save_closest_pairs,
    save_feature_distributions,
    save_nearest_distances,
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return made_up_crops(tmp_path_factory.mktemp("set"), ["a", "b", "c" * 80], [1, 2, 3])


def test_closest_pairs_stand_first_and_the_original_is_turned_as_its_copy(crops, tmp_path, monkeypatch):
    shown, titles = [], []
    axes = set_comparison_pictures.plt.Axes
    monkeypatch.setattr(axes, "imshow", lambda self, picture, **style: shown.append(np.array(picture)))
    monkeypatch.setattr(axes, "set_title", lambda self, title, **style: titles.append(title))
    mirror = MIRRORS.index((-1, 1, 1))
    found = Neighbours(np.array([0.3, 0.1, 0.2]), np.array([1, 2, 0]), np.array([0, mirror, 0]))
    save_closest_pairs(crops, crops, found, tmp_path / "pairs.png", pairs=2)
    assert titles == ["b", "c" * 44 + "…", "c" * 44 + "…", "a"]
    assert len(shown) == 12
    middle = crops[1].values.shape[2] // 2
    np.testing.assert_array_equal(shown[0], crops[1].values[:, :, middle].T[::-1, ::-1])
    np.testing.assert_array_equal(shown[3], crops[2].values[::-1, :, middle].T[::-1, ::-1])


def test_pictures_of_even_sets_are_written(crops, tmp_path):
    save_feature_distributions(["one"], np.ones((4, 1)), np.ones((3, 1)), tmp_path / "one.png")
    many = [f"feature_{n}" for n in range(60)]
    save_feature_distributions(many, np.random.rand(5, 60), np.random.rand(5, 60), tmp_path / "many.png")
    save_nearest_distances(np.zeros(3), np.zeros(4), (1, 5), tmp_path / "distances.png")
    for name in ("one", "many", "distances"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 200
