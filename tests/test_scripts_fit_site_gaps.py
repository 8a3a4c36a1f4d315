"""Fitting how deep real lesions lie in the lung."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from custom_components.errors import InputError
from custom_components.sites import read_site_gaps
from lefusion_scripts.fit_site_gaps import QUANTILES, fit_site_gaps, gap_quantiles

DEPTHS = (5, 8, 11, 14)  # of the lesions' middles below the pleura, and one too deep for its crop to tell


@pytest.fixture
def dataset(tmp_path):
    """Crops of 40 mm: chest wall, then lung, with a ball of tissue in it."""
    root = tmp_path / "data"
    for number, depth in enumerate((*DEPTHS, None)):
        hu = np.full((40, 40, 40), -850, np.int16)
        wall = 0 if depth is None else 20 - depth
        hu[:wall] = 40
        lesion = np.linalg.norm(np.indices(hu.shape) - np.reshape((19.5, 19.5, 19.5), (3, 1, 1, 1)), axis=0) < 6
        lesion &= ndimage.binary_dilation(hu == -850)
        lesion[:wall] = False
        hu[lesion] = 30
        for folder, volume in (("images", hu), ("labels", lesion.astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0])), root / folder / f"{number}.nii.gz")
    return root


def test_gaps_of_lesions_at_known_depths_are_measured_and_the_deep_one_is_censored(dataset, tmp_path):
    output = tmp_path / "gaps.json"
    content = fit_site_gaps(str(dataset), str(output))
    assert content["fitted_on"]["count"] == 5
    assert content["fitted_on"]["censored"] == 1
    quantiles = read_site_gaps(output)
    assert len(quantiles) == QUANTILES
    # The first lesion is cut by the pleura, so that its middle lies a little deeper.
    np.testing.assert_allclose(quantiles[[5, 12, 20, 28, 40]], [5.5, 8, 11, 14, 14], atol=1)
    with pytest.raises(InputError, match="exists"):
        fit_site_gaps(str(dataset), str(output))
    assert json.loads(output.read_text()) == content


def test_censored_gaps_weigh_on_what_lies_beyond_them():
    # Kaplan and Meier by hand: S = 3/4 after 1, then 2 is censored, S = 3/4 * 1/2 after 3, 0 after 4.
    quantiles = gap_quantiles(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True]))
    ranks = np.linspace(0, 1, QUANTILES)
    expected = np.select([ranks <= 0.25, ranks <= 0.625], [1.0, 3.0], 4.0)
    np.testing.assert_array_equal(quantiles, expected)


def test_without_any_border_in_sight_nothing_is_fitted():
    with pytest.raises(InputError, match="no gap can be measured"):
        gap_quantiles(np.array([20.0, 21.0]), np.array([False, False]))


def test_shipped_gaps_are_plausible(repo_root):
    gaps = read_site_gaps(repo_root / "bundles" / "diffmask" / "configs" / "site_gaps.json")
    assert 0 < gaps[0] < 3
    assert 7 < np.median(gaps) < 12
    assert gaps[-1] > 20
