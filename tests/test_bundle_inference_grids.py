"""Painted scans keep their grid and header, and what is painted lands where it was cut out."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
)
from lung_runs import (
    paint_fixture,  # noqa: F401 (a fixture)
    weights_fixture,  # noqa: F401 (a fixture)
)
from nibabel.nifti1 import Nifti1Extension
from small_chest import GEOMETRIES, balls, chest, save_case

from custom_components.inferers import LesionInpaintingInferer


def rich_header() -> nib.Nifti1Header:
    """A header with a value in every field that a scanner or a converter may have filled."""
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "sec")
    header["pixdim"][4] = 2.5
    header["cal_min"], header["cal_max"] = -1000, 400
    header["toffset"], header["slice_duration"] = 1.5, 0.25
    header["intent_name"], header["aux_file"], header["db_name"] = b"density", b"aux.txt", b"study 7"
    header["descrip"] = b"made by a scanner"
    header.extensions.append(Nifti1Extension("comment", b"keep me"))
    return header


@pytest.mark.parametrize(
    "codes", [(1, 1), (2, 1), (0, 4), (1, 0)], ids=lambda codes: f"qform{codes[0]} sform{codes[1]}"
)
def test_header_codes_units_and_extensions_are_kept(paint, tmp_path, codes):
    header = rich_header()
    affine = GEOMETRIES["oblique"]
    header.set_qform(affine, codes[0])
    header.set_sform(affine, codes[1])
    shape = (20, 22, 16)
    mask = balls(shape, [((10, 11, 8), 3.0)])
    files = save_case(tmp_path / "in", chest(shape), mask, header=header, affine=None)
    save_nifti(Path(files["mask"]), mask.astype(np.uint8), nib.load(files["image"]).affine)
    output = paint(tmp_path / "out", **files, texture="solid")
    before, after = nib.load(files["image"]), output.image
    ours = {"descrip", "magic", "vox_offset", "scl_slope", "scl_inter"}
    for field in set(before.header.keys()) - ours:
        assert before.header[field].tobytes() == after.header[field].tobytes(), field
    assert [(e.get_code(), e.get_content()) for e in after.header.extensions] == [
        (e.get_code(), e.get_content()) for e in before.header.extensions
    ]
    assert np.array_equal(before.affine, after.affine)
    assert np.array_equal(before.affine, output.mask.affine)
    assert output.mask.header.get_xyzt_units() == ("mm", "sec")
    for image in (after, output.mask):
        text = bytes(image.header["descrip"]).decode()
        assert "SYNTHETIC" in text
        assert "research" in text


@pytest.mark.parametrize("name", GEOMETRIES)
def test_affine_and_voxel_size_are_those_of_the_scan(paint, tmp_path, name):
    affine = GEOMETRIES[name]
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    shape = tuple(np.ceil(34 / spacing).astype(int))
    middle = np.array(shape) / 2
    mask = balls(shape, [(middle, 5.0)], spacing)
    files = save_case(tmp_path / "in", chest(shape), mask, affine)
    output = paint(tmp_path / "out", **files, texture="solid")
    before = nib.load(files["image"])
    for image in (output.image, output.mask):
        assert np.array_equal(image.affine, before.affine)
        assert image.header.get_zooms() == before.header.get_zooms()
        assert image.shape == shape
    assert np.array_equal(output.stored[~mask], chest(shape)[~mask])
    assert np.mean(output.stored[mask] != chest(shape)[mask]) > 0.95


def linear_scan(affine: np.ndarray) -> np.ndarray:
    """HU as a linear function of the position, which linear interpolation gives back exactly; float32."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    shape = np.ceil(34 / spacing).astype(int)
    place = np.einsum("ij,j...->i...", affine, np.stack([*np.indices(shape), np.ones(shape)]))[:3]
    offset = place - (affine @ [*(shape // 2), 1])[:3].reshape(3, 1, 1, 1)
    return (-400 + 13 * offset[0] - 11 * offset[1] + 9 * offset[2]).astype(np.float32)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["ball", "thin"])
def test_what_is_painted_lands_where_it_was_cut_out(paint, tmp_path, monkeypatch, name, kind):
    """A model that repaints what is there must leave the scan as it is."""
    values = linear_scan(GEOMETRIES[name])
    middle = np.array(values.shape) // 2
    mask = np.zeros(values.shape, dtype=bool)
    if kind == "ball":
        mask = balls(values.shape, [(middle, 5.0)], np.sqrt((GEOMETRIES[name][:3, :3] ** 2).sum(axis=0)))
    else:  # a voxel, and three discs of one layer
        for place, size in (
            ((-3, -3, -1), (1, 1, 1)),
            ((0, 0, 1), (4, 3, 1)),
            ((3, -3, 0), (1, 2, 2)),
            ((-4, 3, 1), (2, 1, 2)),
        ):
            mask[tuple(slice(m + p, m + p + n) for m, p, n in zip(middle, place, size, strict=True))] = True
    monkeypatch.setattr(LesionInpaintingInferer, "sample", lambda self, image, *args, **kwargs: image)
    files = save_case(tmp_path / "in", values, mask, GEOMETRIES[name])
    output = paint(tmp_path / "out", **files, texture="solid")
    assert len(output.specs) == (1 if kind == "ball" else 4)
    assert np.abs(output.stored - values).max() < 0.05


def test_single_fourth_dimension_does_not_matter(paint, tmp_path):
    files = save_case(tmp_path / "in", chest()[..., None])
    output = paint(tmp_path / "out", **files, texture="solid")
    assert np.array_equal(output.stored[~balls()], chest()[~balls()])
