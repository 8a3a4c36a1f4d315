"""Real lesions drawn from a data set and placed in other scans."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.lesion_library import LesionLibrary, LibraryLesion, place
from custom_components.volumes import Scan

SPACING = np.array([1.0, 1.0, 2.0])
AFFINE = nib.affines.from_matvec(np.diag(SPACING * [-1, -1, 1]), (30, 40, -20))


def write_case(root: Path, name: str, boxes, image: bool = True, value: int = 1) -> None:
    """A 40x40x20 scan with cuboid lesions, each voxel of its image telling where it is."""
    label = np.zeros((40, 40, 20), np.uint8)
    for box in boxes:
        label[tuple(slice(*part) for part in box)] = value
    for folder in ("images", "labels") if image else ("labels",):
        (root / folder).mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label, AFFINE), root / "labels" / f"{name}.nii.gz")
    if image:
        hu = np.arange(label.size, dtype=np.int16).reshape(label.shape) % 997
        nib.save(nib.Nifti1Image(hu, AFFINE), root / "images" / f"{name}.nii.gz")


SMALL, LARGE = ((5, 8), (5, 8), (5, 7)), ((20, 32), (18, 30), (8, 14))


@pytest.fixture
def library(tmp_path):
    write_case(tmp_path, "a", [SMALL, LARGE])
    write_case(tmp_path, "b", [])
    return LesionLibrary(tmp_path, LesionLabels())


def test_every_lesion_is_drawn_and_cases_without_one_are_not(library):
    rng = np.random.default_rng(0)
    assert {library.draw(rng).name for _ in range(30)} == {"a_1", "a_2"}


def test_lesion_is_cut_out_with_its_own_values_and_place(library):
    lesion = next(found for seed in range(20) if (found := library.draw(np.random.default_rng(seed))).name == "a_1")
    assert lesion.mask.sum() == 18
    assert lesion.mask.shape == (7, 7, 6)
    np.testing.assert_allclose(lesion.centre_mm, (AFFINE @ [6, 6, 5.5, 1])[:3], atol=1e-4)
    corner = np.array([1.5, 1.5, 2.0])  # a face's middle on the rim of 3 x 3 mm x 4 mm
    assert np.linalg.norm(np.delete(corner, 2)) < lesion.radius_mm <= np.linalg.norm(corner)
    image = nib.load(library.root / "images" / "a.nii.gz")
    np.testing.assert_allclose(lesion.affine @ [2, 2, 2, 1], AFFINE @ [5, 5, 5, 1])
    np.testing.assert_array_equal(lesion.values, np.asarray(image.dataobj)[3:10, 3:10, 3:9])


def test_wanted_radius_draws_the_nearest(tmp_path):
    for k in range(12):
        write_case(tmp_path, f"small{k}", [SMALL], image=False)
        write_case(tmp_path, f"large{k}", [LARGE], image=False)
    library, rng = LesionLibrary(tmp_path, LesionLabels()), np.random.default_rng(0)
    assert all(library.draw(rng, 2.0).name.startswith("small") for _ in range(10))
    large = [library.draw(rng, 9.0) for _ in range(10)]
    assert all(lesion.name.startswith("large") for lesion in large)
    assert len({lesion.name for lesion in large}) > 1
    assert large[0].values is None


def test_datalist_without_images_is_a_library_and_its_cut_lesions_are_passed_over(tmp_path):
    write_case(tmp_path, "a", [SMALL], image=False)
    write_case(tmp_path, "b", [LARGE], image=False)
    entries = [{"label": "labels/a.nii.gz"}, {"label": "labels/b.nii.gz", "whole": False}]
    (tmp_path / "datalist.json").write_text(json.dumps(entries))
    library = LesionLibrary(tmp_path, LesionLabels())
    assert {library.draw(np.random.default_rng(seed)).name for seed in range(10)} == {"a"}


def test_joint_classes_are_one_lesion_with_their_labels(tmp_path):
    write_case(tmp_path, "a", [SMALL, LARGE], value=3)
    label = nib.load(tmp_path / "labels" / "a.nii.gz")
    values = np.asarray(label.dataobj).copy()
    values[0, 0, 0], values[22:24, 20, 10] = 2, 4
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "labels" / "a.nii.gz")
    labels = LesionLabels({"mi": 3, "pmo": 4}, {"wall": 2}, joint=True)
    lesion = LesionLibrary(tmp_path, labels).draw(np.random.default_rng(0))
    assert lesion.name == "a"
    assert [(lesion.mask == value).sum() for value in (2, 3, 4)] == [0, 18 + 12 * 12 * 6 - 2, 2]


@pytest.mark.parametrize("what", ["missing", "empty", "no lesion", "unknown label", "broken datalist", "other grid"])
def test_unfit_library_is_refused_in_one_sentence(tmp_path, what):
    root = tmp_path / "library"
    if what != "missing":
        root.mkdir()
    if what == "no lesion":
        write_case(root, "a", [])
    if what == "unknown label":
        write_case(root, "a", [SMALL])
        label = nib.load(root / "labels" / "a.nii.gz")
        values = np.asarray(label.dataobj).copy()
        values[0, 0, 0] = 9
        nib.save(nib.Nifti1Image(values, AFFINE), root / "labels" / "a.nii.gz")
    if what == "broken datalist":
        (root / "datalist.json").write_text("{")
    if what == "other grid":
        write_case(root, "a", [SMALL])
        nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), AFFINE), root / "images" / "a.nii.gz")
    with pytest.raises(InputError) as error:
        LesionLibrary(root, LesionLabels()).draw(np.random.default_rng(0))
    assert "\n" not in str(error.value)
    assert str(root) in str(error.value)


def lesion(spacing=SPACING, values: bool = True) -> LibraryLesion:
    """An L of two classes that no mirror image maps onto itself."""
    mask = np.zeros((9, 8, 7), np.uint8)
    mask[2:7, 2:4, 2:4] = 1
    mask[2:4, 2:6, 2:4] = 1
    mask[2:4, 2:4, 2:5] = 2
    affine = nib.affines.from_matvec(np.diag(spacing), (5, 5, 5))
    hu = np.where(mask > 0, 100.0 + np.arange(mask.size).reshape(mask.shape), -850).astype(np.float32)
    centre = tuple(float(v) for v in (affine @ [4, 3.5, 3, 1])[:3])
    return LibraryLesion("l", mask, hu if values else None, affine, centre, 4.0)


def target(spacing=SPACING, shape=(40, 40, 30)) -> Scan:
    affine = nib.affines.from_matvec(np.diag(np.array(spacing) * [-1, -1, 1]), (20, 20, -30))
    return Scan(Path("scan.nii.gz"), np.full(shape, -900, np.int16), 1.0, 0.0, affine)


def test_equal_spacing_copies_voxels_in_every_mirror_image():
    source, scan = lesion(), target()
    shapes = set()
    for seed in range(40):
        placed = place(source, (0.3, -0.4, 2.2), scan, None, np.random.default_rng(seed))
        for value in (1, 2):
            assert (placed.label == value).sum() == (source.mask == value).sum()
        inside = placed.label > 0
        assert sorted(placed.values[inside]) == sorted(source.values[source.mask > 0])
        index = np.argwhere(inside) + [part.start for part in placed.box]
        middle = (scan.affine @ [*((index.min(axis=0) + index.max(axis=0)) / 2), 1])[:3]
        assert np.abs(middle - (0.3, -0.4, 2.2)).max() <= 2.01
        shapes.add(tuple(map(tuple, index)))
    assert len(shapes) == 8


def test_other_spacing_keeps_the_volume_and_the_place():
    source, scan = lesion((2.0, 2.0, 2.0)), target((0.7, 0.9, 1.1), (60, 60, 50))
    placed = place(source, (0, 0, 0), scan, None, np.random.default_rng(0))
    volume = (placed.label > 0).sum() * np.prod((0.7, 0.9, 1.1))
    assert volume == pytest.approx((source.mask > 0).sum() * 8, rel=0.1)
    assert placed.values[placed.label > 0].min() > -850
    assert np.prod(placed.label.shape) < 0.5 * scan.stored.size


def test_small_lesion_survives_thick_slices():
    placed = place(lesion(), (0, 0, 0), target((1.0, 1.0, 10.0), (40, 40, 6)), None, np.random.default_rng(0))
    assert (placed.label > 0).any()


def test_organ_cuts_the_lesion_and_its_lack_is_told():
    source, scan = lesion(), target()
    organ = np.zeros(scan.stored.shape, bool)
    organ[:21] = True
    placed = place(source, (0, 0, 0), scan, organ, np.random.default_rng(0))
    assert 0 < (placed.label > 0).sum() < (source.mask > 0).sum()
    assert not (placed.label > 0)[~organ[placed.box]].any()
    with pytest.raises(InputError, match="nothing of lesion l"):
        place(source, (0, 0, 0), scan, np.zeros_like(organ), np.random.default_rng(0))


def test_lesion_at_the_scan_s_end_is_cut_there():
    placed = place(lesion(), (20, 20, -30), target(), None, np.random.default_rng(0))
    assert (placed.label > 0).any()
    assert all(part.start >= 0 for part in placed.box)


def test_lesion_without_an_image_has_no_values():
    assert place(lesion(values=False), (0, 0, 0), target(), None, np.random.default_rng(0)).values is None


def test_real_nodules_are_drawn_with_their_intensities(data_dir):
    library = LesionLibrary(data_dir / "lidc_nodules", LesionLabels())
    library.cases = library.cases[:5]
    found = library.draw(np.random.default_rng(0), 5.0)
    assert found.mask.any()
    assert -1000 < found.values[found.mask > 0].mean() < 400
