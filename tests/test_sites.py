"""Sites of lesions: as far from the organ's border as real ones, apart from each other, inside the scan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from custom_components import organ_depth
from custom_components.errors import InputError
from custom_components.organ_depth import OrganDepth
from custom_components.sites import draw_sites, read_site_gaps
from custom_components.volumes import Scan

RADIUS = 36.0  # of a round organ


def ball(spacing_mm=(2.0, 2.0, 3.0), size_mm: float = 90.0) -> tuple[np.ndarray, np.ndarray]:
    """A round organ in the middle of its grid: mask and affine, whose centre is 0, 0, 0 mm."""
    shape = np.round(size_mm / np.array(spacing_mm)).astype(int)
    axes = np.diag(spacing_mm) @ np.diag([-1, 1, 1])
    affine = nib.affines.from_matvec(axes, -axes @ ((shape - 1) / 2))
    places = np.tensordot(axes, np.indices(tuple(shape)), 1) + affine[:3, 3].reshape(3, 1, 1, 1)
    return np.linalg.norm(places, axis=0) < RADIUS, affine


def gaps_of(spheres) -> np.ndarray:
    return np.array([RADIUS - np.linalg.norm(centre) for centre, _ in spheres])


def test_depth_is_the_distance_to_the_border_and_the_scan_s_end_is_none():
    organ = np.zeros((30, 30, 30), bool)
    organ[10:30, 3:27, 4:26] = True  # 40 mm of it, to the end of the first axis
    depth = OrganDepth(organ, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert depth.depth_at((20, 30, 30)) == pytest.approx(1)  # half a voxel below the face
    assert depth.depth_at((26, 30, 30)) == pytest.approx(7)
    assert depth.depth_at((58, 30, 12)) == pytest.approx(5)
    assert OrganDepth(np.ones((5, 5, 5), bool), np.eye(4)).depth_at((2, 2, 2)) == np.inf


def test_gaps_are_distributed_as_asked_for_whatever_the_radius():
    organ, affine = ball()
    wanted = np.array([1.0, 4.0, 6.0, 12.0, 25.0])
    rng = np.random.default_rng(0)
    spheres = [draw_sites(1, [radius], organ, affine, wanted, rng, "a")[0] for radius in rng.uniform(2, 8, 200)]
    asked = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, 5), wanted)
    assert stats.wasserstein_distance(gaps_of(spheres), asked) < 1.2
    # Small ones lie no deeper than large ones, so that large ones reach over the border.
    assert abs(stats.spearmanr([radius for _, radius in spheres], gaps_of(spheres))[0]) < 0.25
    assert any(radius > gap for (_, radius), gap in zip(spheres, gaps_of(spheres), strict=True))


def test_last_quantile_stands_for_everything_beyond():
    organ, affine = ball()
    rng = np.random.default_rng(1)
    spheres = [draw_sites(1, [3.0], organ, affine, np.array([15.0, 15.0]), rng, "a")[0] for _ in range(100)]
    gaps = gaps_of(spheres)
    assert gaps.min() > 13
    assert np.percentile(gaps, 75) > 18


def test_large_organ_is_thinned_and_its_gaps_stay_right(monkeypatch):
    organ, affine = ball((1.25, 1.25, 1.25))
    monkeypatch.setattr(organ_depth, "MOST_VOXELS", organ.size // 12)
    rng = np.random.default_rng(2)
    wanted = np.array([2.0, 8.0, 20.0])
    spheres = [draw_sites(1, [3.0], organ, affine, wanted, rng, "a")[0] for _ in range(100)]
    assert OrganDepth(organ, affine).voxel_mm > 1.5
    asked = np.interp(np.linspace(0, 1, 400), np.linspace(0, 1, 3), wanted)
    assert stats.wasserstein_distance(gaps_of(spheres), asked) < 1.3


def test_spheres_lie_apart_inside_the_scan_with_their_centres_in_the_organ():
    organ, affine = ball()
    organ, taken = organ[: organ.shape[0] * 2 // 3], [((0.0, 0.0, 0.0), 6.0)]
    radii = [3.0, 9.0, 4.0, 5.0]
    spheres = draw_sites(4, radii, organ, affine, np.array([0.0, 30.0]), np.random.default_rng(3), "a", taken)
    assert [radius for _, radius in spheres] == radii
    everything = [*taken, *spheres]
    for number, (centre, radius) in enumerate(spheres, start=1):
        index = np.linalg.solve(affine, [*centre, 1])[:3]
        assert organ[tuple(np.rint(index).astype(int))]
        spacing = np.array([2.0, 2.0, 3.0])
        assert ((index + 0.5) * spacing >= radius - 1e-6).all()
        assert ((np.array(organ.shape) - 0.5 - index) * spacing >= radius - 1e-6).all()
        for other, reach in everything[:number]:
            assert np.linalg.norm(np.subtract(centre, other)) >= radius + reach + 2


def test_same_seed_gives_the_same_sites():
    organ, affine = ball()
    one, two = (
        draw_sites(2, [3, 4], organ, affine, np.array([0, 20]), np.random.default_rng(5), "a") for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize(
    ("count", "radii", "gaps"),
    [(1, [50.0], [0, 20]), (30, [12.0] * 30, [0, 20]), (1, [3.0], [60, 70])],
    ids=["larger than the scan", "too many", "deeper than the organ"],
)
def test_lack_of_room_is_told_in_one_sentence(count, radii, gaps):
    organ, affine = ball()
    with pytest.raises(InputError, match=r"no room was found for lesion .* case a") as error:
        draw_sites(count, radii, organ, affine, np.array(gaps, float), np.random.default_rng(0), "a")
    assert "\n" not in str(error.value)


def test_empty_organ_has_no_room():
    with pytest.raises(InputError, match="no room"):
        draw_sites(1, [1.0], np.zeros((9, 9, 9), bool), np.eye(4), np.array([0.0, 9]), np.random.default_rng(0), "a")


def test_count_must_be_that_of_the_radii():
    organ, affine = ball()
    with pytest.raises(InputError, match="2 lesions of 1 radii"):
        draw_sites(2, [3.0], organ, affine, np.array([0.0, 9]), np.random.default_rng(0), "a")


def test_sites_keep_to_aerated_lung_where_the_scan_is_known():
    organ, affine = ball()
    hu = np.where(organ, -850, 40).astype(np.int16)
    hu[: organ.shape[0] // 2] = 40  # consolidated, and yet in the mask
    scan = Scan(Path("ct.nii.gz"), hu, 1.0, 0.0, affine)
    gaps, rng = np.array([0.0, 30.0]), np.random.default_rng(4)
    centres = [draw_sites(1, [4.0], organ, affine, gaps, rng, "a", scan=scan)[0][0] for _ in range(30)]
    assert max(x for x, _, _ in centres) < 4  # the first array axis runs to the left
    with pytest.raises(InputError, match="no room"):
        draw_sites(1, [4.0], organ, affine, gaps, rng, "a", scan=replace(scan, stored=np.full_like(hu, 40)))


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        '{"a": 1}',
        '{"site_gap_mm_quantiles": [3, 2]}',
        '{"site_gap_mm_quantiles": [-1, 2]}',
        '{"site_gap_mm_quantiles": [1]}',
        '{"site_gap_mm_quantiles": [1, NaN]}',
        '{"site_gap_mm_quantiles": [1, Infinity]}',
    ],
)
def test_unfit_distribution_of_gaps_is_refused(tmp_path, content):
    path = tmp_path / "gaps.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"site.gap.*gaps\.json"):
        read_site_gaps(path)
    path.write_text(json.dumps({"site_gap_mm_quantiles": [0, 2, 3]}))
    assert read_site_gaps(path).tolist() == [0, 2, 3]
