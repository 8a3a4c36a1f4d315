"""The inference bundle, run whole with a tiny network: what it writes, on which grid, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import (
    BUNDLES,
    RAS,
    TINY_NETWORK,
    Output,
    causes,
    infer,
    options,
    save_nifti,
    save_weights_of,
    stored_of,
)
from nibabel.nifti1 import Nifti1Extension

from custom_components.conditioners import HistogramConditioner
from custom_components.errors import find_input_error
from custom_components.handlers import saver
from custom_components.inferers import LesionInpaintingInferer
from custom_components.networks import HistogramUNet
from custom_components.planning import plan_lesions
from custom_components.specs import read_lesions
from custom_components.transforms import LesionCropd

BUNDLE = BUNDLES / "lefusion_lidc"
TINY = {
    **{f"network_def#{key}": value for key, value in TINY_NETWORK.items()},
    "spatial_size": [16, 16, 16],
    "num_inference_steps": 2,
    "bundle_root": str(BUNDLE),
    "device": "cpu",
    "panel": False,
    "progress": False,
}

# A scan of 36 x 32 x 30 voxels with two lesions, (centre, radius) in voxels: 9 and 8 voxels wide.
SHAPE = (36, 32, 30)
LESIONS = (((12, 13, 9), 4.0), ((24.5, 20.5, 20.5), 3.7))


def affine_of(spacing: Sequence[float], flips: Sequence[int] = (1, 1, 1), tilt_degrees: float = 0.0) -> np.ndarray:
    """Voxel indices to RAS+ mm: voxel size, direction of each axis, and a rotation about two axes."""
    angle = np.deg2rad(tilt_degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag(np.multiply(spacing, flips))
    affine[:3, 3] = (31.5, -12.25, 140)
    return affine


def chest(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Lung of about -850 HU with noise, and a wall of +40 HU; int16."""
    values = np.random.default_rng(0).normal(-850, 30, shape)
    values[:4] = 40
    return np.rint(values).astype(np.int16)


def balls(
    shape: Sequence[int] = SHAPE, lesions: Sequence = LESIONS, spacing: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """A mask of balls, (centre in voxels, radius in mm); bool."""
    grid = np.indices(shape).astype(float)
    mask = np.zeros(shape, dtype=bool)
    for centre, radius in lesions:
        offset = (grid - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(spacing, (3, 1, 1, 1))
        mask |= (offset**2).sum(axis=0) <= radius**2
    return mask


def save_case(
    folder: Path, stored: np.ndarray | None = None, mask: np.ndarray | None = None, affine: np.ndarray = RAS, **how: Any
) -> dict[str, str]:
    """A scan ``case.nii.gz`` and its mask, as the bundle's ``image`` and ``mask`` keys."""
    image = save_nifti(folder / "case.nii.gz", chest() if stored is None else stored, affine, **how)
    label = save_nifti(folder / "label.nii.gz", (balls() if mask is None else mask).astype(np.uint8), affine)
    return {"image": str(image), "mask": str(label)}


def save_tiny_weights(path: Path, **network: Any) -> Path:
    """Weights of this bundle's network made tiny."""
    return save_weights_of(BUNDLE, path, **network)


def run_workflow(config_file: str | Path | list[str] = BUNDLE / "configs" / "inference.json", **overrides: Any) -> None:
    """This bundle's inference, or other configs, in this process."""
    infer(config_file, **overrides)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.pt")


@pytest.fixture(scope="module")
def paint(weights) -> Callable[..., Output]:
    """Runs the bundle with the tiny network: ``paint(output_dir, image=..., mask=..., **overrides)``."""

    def run(output_dir: Path, case: str = "case", **overrides: Any) -> Output:
        run_workflow(**{**TINY, "weights": str(weights), "output_dir": str(output_dir), **overrides})
        return Output(output_dir, case)

    return run


@pytest.fixture(autouse=True)
def _same_excepthook(monkeypatch):
    """The bundle installs its own excepthook, as it should in a process of its own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> dict[str, str]:
    return save_case(tmp_path_factory.mktemp("input"))


@pytest.fixture(scope="module")
def basic(paint, case, tmp_path_factory) -> Output:
    """The two lesions of the plain case, one solid, one of random texture, with the picture."""
    return paint(tmp_path_factory.mktemp("basic"), **case, texture=["solid", "random"], seed=3, panel=True)


@pytest.fixture
def forwards(monkeypatch) -> list[int]:
    """The batch size of every forward of the network."""
    calls: list[int] = []
    original = HistogramUNet.forward

    def forward(self, x, *args, **kwargs):
        calls.append(len(x))
        return original(self, x, *args, **kwargs)

    monkeypatch.setattr(HistogramUNet, "forward", forward)
    return calls


# ------------------------------------------------------------------------------------------------ the files


def test_a_case_gives_scan_mask_picture_and_record_and_nothing_else(basic):
    assert basic.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz", "case_panel.png"]


def test_picture_shows_four_columns_of_three_planes_a_lesion(basic):
    picture = matplotlib.image.imread(basic.folder / "case_panel.png")
    height, width = picture.shape[:2]
    assert height / width == pytest.approx(2 * 7.6 / 10, rel=0.01), "two lesions"
    gray = picture[..., :3].mean(axis=2)
    for rows in np.array_split(gray, 6):
        for part in np.array_split(rows, 4, axis=1):
            assert part.std() > 0.02, "an empty field"


def test_picture_can_be_left_out(paint, case, tmp_path):
    assert "case_panel.png" not in paint(tmp_path, **case, texture="solid", panel=False).files()


# ------------------------------------------------------------------------- background, data type and scaling

HU = chest()
STORED = {
    "int16": (HU, (1.0, 0.0)),
    "uint16 with intercept": ((HU + 1024).astype(np.uint16), (1.0, -1024.0)),
    "uint16 with slope 0.5": ((2 * (HU.astype(int) + 1024)).astype(np.uint16), (0.5, -1024.0)),
    "uint8 with slope 8": (((HU.astype(int) + 1024) // 8).astype(np.uint8), (8.0, -1024.0)),
    "big-endian int16": (HU.astype(">i2"), (1.0, 0.0)),
    "int32": (HU.astype(np.int32), (1.0, 0.0)),
    "float32": ((HU + 0.37).astype(np.float32), (1.0, 0.0)),
    "float64": (HU + 1 / 3, (1.0, 0.0)),
}


@dataclass(frozen=True)
class StoredCase:
    name: str
    stored: np.ndarray
    scaling: tuple[float, float]
    output: Output


@pytest.fixture(scope="module", params=STORED)
def painted(request, paint, tmp_path_factory) -> StoredCase:
    """The same scan in one of several data types, painted."""
    folder = tmp_path_factory.mktemp("stored")
    stored, scaling = STORED[request.param]
    header = nib.Nifti1Header(endianness=">") if stored.dtype.byteorder == ">" else None
    files = save_case(folder / "in", stored, scaling=scaling, header=header)
    return StoredCase(request.param, stored, scaling, paint(folder / "out", **files, texture="solid"))


def test_background_is_bit_exact_outside_the_mask_in_the_scan_s_own_type(painted):
    result, mask = painted.output.stored, balls()
    assert result.dtype == painted.stored.dtype
    assert result[~mask].tobytes() == painted.stored[~mask].tobytes()
    assert np.mean(result[mask] != painted.stored[mask]) > 0.95
    data = painted.output.image.dataobj
    assert (data.slope, data.inter) == painted.scaling


def test_painted_values_are_hu_within_the_window(painted):
    values = painted.output.image.get_fdata()[balls()]
    assert values.min() >= -1000 - painted.scaling[0]
    assert values.max() <= 400 + painted.scaling[0]
    assert -500 < values.mean() < 150, "solid"


def test_mask_output_numbers_the_lesions_from_the_feet_to_the_head(painted):
    values = painted.output.mask.get_fdata()
    assert painted.output.mask.get_data_dtype() == np.uint8
    assert np.array_equal(painted.output.mask.affine, RAS)
    for number, lesion in enumerate(LESIONS, start=1):
        assert np.array_equal(values == number, balls(lesions=[lesion]))
    assert np.array_equal(values > 0, balls())


# --------------------------------------------------------------------------------------- grid and header

GEOMETRIES = {
    "axis-aligned": affine_of((1, 1, 1)),
    "negative diagonal": affine_of((1, 1, 1), flips=(-1, -1, 1)),
    "anisotropic": affine_of((0.7, 0.7, 5), flips=(-1, -1, 1)),
    "oblique": affine_of((0.9, 0.8, 1.25), flips=(-1, 1, 1), tilt_degrees=17),
    "permuted axes": affine_of((1.5, 0.8, 0.9))[:, [2, 0, 1, 3]],
}


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


# ----------------------------------------------------------------------------------------------- the crop


def crops(files: dict[str, str], size: Sequence[int] = (16, 16, 16)) -> list[dict[str, Any]]:
    cases = [{"image": files["image"], "label": files["mask"], "case": "case"}]
    presets = HistogramConditioner(BUNDLE / "configs" / "texture_presets.json")
    return [LesionCropd("image", size)(item) for item in plan_lesions(cases, presets, "solid", spatial_size=size)]


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_crop_of_a_scan_at_the_model_s_spacing_is_the_scan_itself(tmp_path, flips):
    files = save_case(tmp_path, affine=affine_of((1, 1, 1), flips))
    to_ras = nib.as_closest_canonical(nib.load(files["image"]))
    lesions = nib.as_closest_canonical(nib.load(files["mask"])).get_fdata() > 0
    values = to_ras.get_fdata().astype(np.float32)
    for item in crops(files):
        corner = np.linalg.solve(to_ras.affine, item["image"].affine.numpy()[:, 3])[:3]
        start = np.rint(corner).astype(int)
        assert np.allclose(corner, start)
        box = tuple(slice(first, first + 16) for first in start)
        assert (start > 0).all()
        assert np.array_equal(item["image"][0].numpy(), values[box])
        own = item["label"][0].numpy() > 0
        assert own.sum() > 100
        assert (lesions[box] & own).sum() == own.sum()


def test_crop_holds_only_the_lesion_it_belongs_to(tmp_path):
    mask = balls(lesions=[((12, 13, 9), 3.0), ((19, 13, 9), 2.0)])
    sizes = [int(item["label"].sum()) for item in crops(save_case(tmp_path, mask=mask))]
    assert sizes == [balls(lesions=[((12, 13, 9), 3.0)]).sum(), balls(lesions=[((19, 13, 9), 2.0)]).sum()]


@pytest.mark.parametrize(
    ("flips", "start"),
    [
        ((1, 1, 1), 4),
        ((1, 1, 1), 5),
        ((-1, -1, -1), 4),
        ((-1, -1, -1), 5),
    ],
)
def test_lesion_as_large_as_the_crop_lies_in_it_whole(tmp_path, flips, start):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[start : start + 16, start : start + 16, start : start + 16] = True
    (item,) = crops(save_case(tmp_path, mask=mask, affine=affine_of((1, 1, 1), flips)))
    assert int(item["label"].sum()) == 16**3


@pytest.mark.parametrize("corner", [0, 1])
def test_lesion_that_touches_the_scan_s_edge_is_painted(paint, tmp_path, corner):
    centre = np.multiply(corner, np.array(SHAPE) - 1)
    mask = balls(lesions=[(centre, 5.0)])
    output = paint(tmp_path / "out", **save_case(tmp_path / "in", mask=mask), texture="solid")
    assert np.mean(output.stored[mask] != chest()[mask]) > 0.95
    assert np.array_equal(output.stored[~mask], chest()[~mask])
    assert output.specs[0]["voxels"] == mask.sum()


def test_lesion_of_one_voxel_of_thick_slices_is_painted(paint, tmp_path):
    shape = (40, 40, 9)
    mask = np.zeros(shape, dtype=bool)
    mask[20, 19, 4] = True
    files = save_case(tmp_path / "in", chest(shape), mask, GEOMETRIES["anisotropic"])
    output = paint(tmp_path / "out", **files, texture="solid")
    assert output.stored[20, 19, 4] > chest(shape)[20, 19, 4] + 50
    assert np.array_equal(output.stored[~mask], chest(shape)[~mask])


# -------------------------------------------------------------------------------------- what decides the result


def test_same_seed_gives_the_same_voxels_and_another_seed_others(paint, case, tmp_path):
    first, again, other = (
        paint(tmp_path / str(i), **case, texture="random", seed=seed) for i, seed in enumerate((7, 7, 8))
    )
    assert first.stored.tobytes() == again.stored.tobytes()
    assert first.specs == again.specs
    for number, lesion in enumerate(LESIONS):
        mask = balls(lesions=[lesion])
        assert np.mean(first.stored[mask] != other.stored[mask]) > 0.9
        assert first.specs[number]["seed"] != other.specs[number]["seed"]


def test_lesions_of_one_case_differ_in_noise_and_perturbation(paint, tmp_path):
    mask = balls(lesions=[((10, 16, 8), 3.0), ((10, 16, 22), 3.0)])
    files = save_case(tmp_path / "in", np.full(SHAPE, -850, dtype=np.int16), mask)
    output = paint(tmp_path / "out", **files, texture="solid")
    first, second = output.specs
    assert first["seed"] != second["seed"]
    assert first["histogram"] != second["histogram"]
    assert np.mean(output.stored[..., 5:12][mask[..., 5:12]] != output.stored[..., 19:26][mask[..., 19:26]]) > 0.9


def test_replayed_record_gives_the_same_voxels_whatever_else_is_asked(paint, case, basic, tmp_path):
    replay = basic.folder / "case_lefusion.json"
    again = paint(tmp_path / "again", **case, replay=str(replay), seed=99, texture="ground_glass")
    assert again.stored.tobytes() == basic.stored.tobytes()
    assert again.specs == basic.specs


def test_batch_size_does_not_change_the_result(paint, tmp_path, forwards):
    lesions = [((8, 9, 8), 3.0), ((24, 9, 15), 3.4), ((16, 22, 21), 4.0)]
    files = save_case(tmp_path / "in", mask=balls(lesions=lesions))
    textures = ["ground_glass", "solid", "none"]
    single = paint(tmp_path / "1", **files, texture=textures, batch_size=1)
    assert forwards == [1] * 6
    pairs = paint(tmp_path / "2", **files, texture=textures, batch_size=2)
    assert forwards[6:] == [2, 2, 1, 1]
    assert np.abs(single.stored.astype(int) - pairs.stored).max() <= 1
    assert pairs.specs == single.specs


def test_other_cases_of_the_data_set_do_not_change_the_result(paint, case, tmp_path):
    other = save_case(tmp_path / "other", mask=balls(lesions=[((15, 15, 15), 4.0)]))
    entries = [
        {"image": other["image"], "label": other["mask"], "case": "other"},
        {"image": case["image"], "label": case["mask"], "case": "case"},
    ]
    for name, content in (("both", entries), ("one", entries[1:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        paint(tmp_path / name, dataset_dir=str(tmp_path / f"{name}.json"), seed=5, batch_size=2)
    both, one = Output(tmp_path / "both"), Output(tmp_path / "one")
    assert both.files() == sorted([*one.files(), *(name.replace("case_", "other_") for name in one.files())])
    assert np.abs(both.stored.astype(int) - one.stored).max() <= 1
    assert both.specs == one.specs


@pytest.mark.parametrize(
    ("spacing", "centre", "axes"),
    [
        pytest.param((1, 1, 1), (16, 15, 14), "LPS", id="odd LPS"),
        pytest.param((1, 1, 1), (16, 15, 14), "SAL", id="odd SAL"),
        pytest.param((1, 1, 1), (16.5, 15.5, 13.5), "LPS", id="even LPS"),
        pytest.param((1, 1, 1), (16.5, 15.5, 13.5), "SAL", id="even SAL"),
        pytest.param((0.8, 0.9, 2.5), (20, 18, 6), "LPI", id="anisotropic LPI"),
        pytest.param((0.8, 0.9, 2.5), (20, 18, 6), "IPR", id="anisotropic IPR"),
        pytest.param((1, 1, 2), (16, 15, 7), "LPI", id="thick slices LPI"),
        pytest.param((1, 1, 2), (16, 15, 7), "AIR", id="thick slices AIR"),
    ],
)
def test_scan_in_another_orientation_gets_the_same_lesion(paint, tmp_path, spacing, centre, axes):
    shape = tuple(np.ceil(np.array((34, 32, 30)) / spacing).astype(int))
    mask = balls(shape, [(centre, 4.6)], spacing)
    affine = affine_of(spacing)
    plain = paint(tmp_path / "plain", **save_case(tmp_path / "in", chest(shape), mask, affine), texture="solid", seed=1)

    def turn(image: nib.Nifti1Image, letters: str) -> nib.Nifti1Image:
        now, wanted = (nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(letters))
        return image.as_reoriented(nib.orientations.ornt_transform(now, wanted))

    turned = [turn(nib.Nifti1Image(array, affine), axes) for array in (chest(shape), mask.astype(np.uint8))]
    arrays = [np.asarray(image.dataobj) for image in turned]
    files = save_case(tmp_path / "turned in", *arrays, turned[0].affine)
    other = paint(tmp_path / "turned", **files, texture="solid", seed=1)
    back = np.asarray(turn(other.image, "RAS").dataobj)
    assert np.abs(back.astype(int) - plain.stored).max() <= 1
    assert np.allclose(other.specs[0]["centre_mm"], plain.specs[0]["centre_mm"])
    assert other.specs[0]["seed"] == plain.specs[0]["seed"]


# ------------------------------------------------------------------------------------------------- textures

FLAT = [1 / 16] * 16


def test_each_lesion_gets_the_texture_asked_for_it(paint, tmp_path):
    lesions = [((8, 9, 8), 3.0), ((24, 9, 15), 3.4), ((16, 22, 21), 4.0)]
    files = save_case(tmp_path / "in", mask=balls(lesions=lesions))
    output = paint(tmp_path / "out", **files, texture=["part_solid", FLAT, "none"])
    named, given, none = output.sidecar["lesions"]
    assert [lesion["spec"]["texture"] for lesion in (named, given, none)] == ["part_solid", "custom", "none"]
    assert given["spec"]["histogram"] == pytest.approx(FLAT)
    assert none["spec"]["histogram"] == [0] * 16
    assert none["histogram_distance"] is None
    preset = json.loads((BUNDLE / "configs" / "texture_presets.json").read_text())["presets"]["part_solid"]
    ratio = np.array(named["spec"]["histogram"])[np.array(preset) > 0] / np.array(preset)[np.array(preset) > 0]
    assert (ratio >= 0.9 / 1.1 - 1e-6).all()
    assert (ratio <= 1.1 / 0.9 + 1e-6).all()
    assert np.ptp(ratio) > 0.01, "each bin is perturbed on its own"
    assert sum(named["spec"]["histogram"]) == pytest.approx(1)


def test_one_texture_holds_for_every_lesion_and_steers_the_painting(paint, case, tmp_path):
    dark, light = (paint(tmp_path / name, **case, texture=name) for name in ("ground_glass", "solid"))
    assert [spec["texture"] for spec in light.specs] == ["solid", "solid"]
    for lesion in LESIONS:
        mask = balls(lesions=[lesion])
        assert light.stored[mask].mean() > dark.stored[mask].mean() + 100


def test_random_texture_follows_its_weights(paint, case, tmp_path):
    weights = {"part_solid": 1, "solid": 0, "ground_glass": 0}
    output = paint(tmp_path, **case, texture="random", texture_weights=weights, texture_perturbation=0)
    assert [spec["texture"] for spec in output.specs] == ["part_solid", "part_solid"]
    preset = json.loads((BUNDLE / "configs" / "texture_presets.json").read_text())["presets"]["part_solid"]
    assert output.specs[0]["histogram"] == pytest.approx(np.array(preset) / np.sum(preset), abs=1e-6)


def test_presets_can_be_the_user_s_own(paint, case, tmp_path):
    presets = tmp_path / "presets.json"
    presets.write_text(json.dumps({"presets": {"calcified": [0.0] * 15 + [1.0]}}))
    output = paint(
        tmp_path / "out", **case, texture="calcified", texture_presets=str(presets), texture_weights={"calcified": 1}
    )
    assert [spec["texture"] for spec in output.specs] == ["calcified", "calcified"]
    assert output.stored[balls()].mean() > 0


# ------------------------------------------------------------------------------------------------- the record


def test_record_names_its_sources_by_hash_and_says_that_it_is_synthetic(basic, case, weights):
    record = basic.sidecar
    for part, path in (("source", case["image"]), ("mask", case["mask"]), ("weights", weights)):
        assert record[part]["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    assert record["bundle"] == {"name": "lefusion_lidc", "version": metadata["version"]}
    assert record["synthetic"] is True
    assert record["digitalSourceType"] == "compositeWithTrainedAlgorithmicMedia"
    assert "not for clinical use" in record["intended_use"]
    assert record["max_abs_difference_outside_mask"] == 0
    assert np.array_equal(record["affine"], RAS)
    assert str(Path(case["image"]).parent) not in json.dumps(record), "no folder of the user"


def test_record_holds_the_settings_of_the_run(basic):
    settings = basic.sidecar["settings"]
    expected = {
        "texture": ["solid", "random"],
        "seed": 3,
        "num_inference_steps": 2,
        "eta": 1.0,
        "jump_length": 1,
        "jump_n_sample": 1,
        "guidance_scale": 1.0,
        "context": "clean",
        "prediction_type": "v_prediction",
        "num_train_timesteps": 300,
        "spatial_size": [16, 16, 16],
        "spacing_mm": [1.0, 1.0, 1.0],
        "hu_window": [-1000, 400],
    }
    assert {key: settings[key] for key in expected} == expected


def test_record_names_the_sampler(basic):
    assert "DDIM" in str(basic.sidecar["settings"]["sampler"])


def test_record_measures_every_lesion(basic):
    for number, (lesion, entry) in enumerate(zip(LESIONS, basic.sidecar["lesions"], strict=True), start=1):
        spec, mask = entry["spec"], balls(lesions=[lesion])
        where = np.argwhere(mask)
        low, high = where.min(axis=0), where.max(axis=0) + 1
        assert (spec["case"], spec["lesion"], spec["voxels"]) == ("case", number, mask.sum())
        assert spec["box"] == [[a, b] for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        assert spec["centre_mm"] == pytest.approx((RAS @ [*(low + high - 1) / 2, 1])[:3])
        assert spec["volume_mm3"] == pytest.approx(mask.sum())
        assert spec["radius_mm"] == pytest.approx((0.75 * mask.sum() / np.pi) ** (1 / 3))
        painted = basic.stored[mask].astype(float)
        assert entry["mean_before"] == pytest.approx(chest()[mask].mean(), abs=0.01)
        assert entry["mean_painted"] == pytest.approx(painted.mean(), abs=0.01)
        assert entry["std_painted"] == pytest.approx(painted.std(), abs=0.01)
        counts = np.histogram((painted + 1000) / 700 - 1, bins=16, range=(-1, 1))[0] / mask.sum()
        # Stored voxels are rounded to whole HU: few of them change their bin.
        assert np.abs(np.array(entry["achieved_histogram"]) - counts).sum() < 0.05
        distance = np.abs(np.cumsum(np.array(entry["achieved_histogram"]) - spec["histogram"])).sum() * 2 / 16
        assert entry["histogram_distance"] == pytest.approx(distance, abs=1e-4)
        assert entry["crop_size"] == [16, 16, 16]
        crop_centre = np.array(entry["crop_affine"]) @ [8, 8, 8, 1]
        assert np.abs(crop_centre[:3] - spec["centre_mm"]).max() <= 0.5


# ------------------------------------------------------------------------------------------- kinds of input


def test_folders_of_images_and_labels_are_painted_case_by_case(paint, tmp_path):
    for name, lesions in (("a", LESIONS[:1]), ("b", LESIONS)):
        save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", chest())
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", balls(lesions=lesions).astype(np.uint8))
    paint(tmp_path / "out", dataset_dir=str(tmp_path / "data"), texture="solid")
    for name, lesions in (("a", LESIONS[:1]), ("b", LESIONS)):
        output = Output(tmp_path / "out", name)
        assert len(output.specs) == len(lesions)
        assert np.array_equal(output.mask.get_fdata() > 0, balls(lesions=lesions))
        assert np.array_equal(output.stored != chest(), balls(lesions=lesions))
    assert len(Output(tmp_path / "out").files()) == 6


def test_case_of_a_datalist_may_have_its_own_name_and_texture(paint, tmp_path):
    save_case(tmp_path / "data")
    entries = [
        {"image": "case.nii.gz", "label": "label.nii.gz", "case": "first", "lesion_texture": "ground_glass"},
        {"image": "case.nii.gz", "label": "label.nii.gz", "case": "second"},
    ]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(entries))
    paint(tmp_path / "out", dataset_dir=str(tmp_path / "data"), texture=["solid", "none"])
    assert [spec["texture"] for spec in Output(tmp_path / "out", "first").specs] == ["ground_glass"] * 2
    assert [spec["texture"] for spec in Output(tmp_path / "out", "second").specs] == ["solid", "none"]


def write_dicom_series(
    folder: Path, values_hu: np.ndarray, spacing: Sequence[float], origin_lps: Sequence[float]
) -> None:
    """An axial CT series. ``values_hu``: (columns, rows, slices), from the patient's right, front and feet."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    folder.mkdir(parents=True)
    study, series, frame = (generate_uid(entropy_srcs=[str(folder), name]) for name in ("study", "series", "frame"))
    for k in range(values_hu.shape[2]):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        item = pydicom.Dataset()
        item.file_meta = meta
        item.SOPClassUID, item.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        item.StudyInstanceUID, item.SeriesInstanceUID, item.FrameOfReferenceUID = study, series, frame
        item.Modality, item.PatientID, item.PatientName = "CT", "P1", "Nobody"
        item.StudyDate, item.StudyTime, item.InstanceNumber = "20200101", "120000", k + 1
        item.ImagePositionPatient = [origin_lps[0], origin_lps[1], origin_lps[2] + k * spacing[2]]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        item.Columns, item.Rows = values_hu.shape[:2]
        item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
        item.BitsAllocated, item.BitsStored, item.HighBit, item.PixelRepresentation = 16, 16, 15, 0
        item.RescaleIntercept, item.RescaleSlope = -1024, 1
        item.PixelData = (values_hu[:, :, k].T.astype(int) + 1024).astype(np.uint16).tobytes()
        # File names run against the slices' order.
        item.save_as(folder / f"{900 - k}.dcm", enforce_file_format=True)


@pytest.fixture
def dicom(tmp_path) -> dict[str, str]:
    """A series of 0.8 x 0.9 x 2 mm and a mask on its grid."""
    shape, spacing, origin = (34, 30, 14), (0.8, 0.9, 2.0), (-90.0, -140.5, 33.0)
    write_dicom_series(tmp_path / "in" / "series", chest(shape), spacing, origin)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (-origin[0], -origin[1], origin[2])
    mask = balls(shape, [((18, 14, 7), 5.0)], spacing)
    label = save_nifti(tmp_path / "in" / "label.nii.gz", mask.astype(np.uint8), affine)
    return {"image": str(tmp_path / "in" / "series"), "mask": str(label)}


def test_dicom_series_is_painted_on_its_own_grid(paint, dicom, tmp_path):
    output = paint(tmp_path / "out", "series", **dicom, texture="solid")
    label = nib.load(dicom["mask"])
    mask = label.get_fdata() > 0
    assert np.allclose(output.image.affine, label.affine, atol=1e-4)
    assert output.image.header.get_xyzt_units()[0] == "mm"
    assert (output.image.header["qform_code"], output.image.header["sform_code"]) == (1, 1)
    assert output.stored.dtype == np.int16
    before = chest(mask.shape)
    assert np.array_equal(output.stored[~mask], before[~mask])
    assert np.mean(output.stored[mask] != before[mask]) > 0.95
    assert np.array_equal(output.mask.get_fdata() > 0, mask)


def test_folder_beside_the_slices_of_a_series_does_not_matter(paint, dicom, tmp_path):
    (Path(dicom["image"]) / "thumbnails").mkdir()
    paint(tmp_path / "out", "series", **dicom, texture="solid")


# ------------------------------------------------------------------------------- existing files and failures


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_existing_outputs_are_refused_unless_they_may_be_replaced(paint, case, tmp_path, forwards):
    first = paint(tmp_path, **case, texture="solid", seed=1)
    before = snapshot(tmp_path)
    done = len(forwards)
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path, **case, texture="solid", seed=2)
    assert "case_lefusion.nii.gz exists already" in str(find_input_error(error.value))
    assert len(forwards) == done
    assert snapshot(tmp_path) == before
    old = first.stored
    again = paint(tmp_path, **case, texture="solid", seed=2, overwrite=True)
    assert (again.stored != old).any()
    assert again.sidecar["settings"]["seed"] == 2
    assert again.files() == sorted(before)


def test_resume_paints_only_the_cases_without_a_record(paint, tmp_path, forwards):
    for name in ("a", "b"):
        save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", chest())
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", balls().astype(np.uint8))
    settings = {"dataset_dir": str(tmp_path / "data"), "texture": "solid", "resume": True}
    out = tmp_path / "out"
    paint(out, **settings)
    whole, first = snapshot(out), Output(out, "b").stored
    (out / "b_lefusion.json").unlink()
    (out / "b_mask.nii.gz").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name.startswith("a_")}
    forwards.clear()
    paint(out, **settings)
    assert len(forwards) == 4, "two steps for each of b's two lesions"
    assert sorted(snapshot(out)) == sorted(whole)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert Output(out, "b").stored.tobytes() == first.tobytes()
    assert not list(out.glob(".partial*"))


def test_resume_of_a_finished_run_paints_nothing(paint, case, tmp_path, forwards):
    paint(tmp_path, **case, texture="solid")
    before = snapshot(tmp_path)
    forwards.clear()
    paint(tmp_path, **case, texture="solid", resume=True)
    assert forwards == []
    assert snapshot(tmp_path) == before


def half(path: Path) -> None:
    Path(path).write_bytes(b"half of it")
    raise OSError("no space left")


def test_failing_write_of_the_scan_leaves_no_file(paint, case, tmp_path, monkeypatch):
    monkeypatch.setattr("custom_components.volumes.nib.save", lambda image, path: half(path))
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path / "out", **case, texture="solid")
    assert "no space left" in map(str, causes(error.value))
    assert snapshot(tmp_path / "out") == {}


def test_failing_picture_leaves_no_partial_file_and_a_case_that_resume_completes(paint, case, tmp_path):
    paint(tmp_path, **case, texture="solid", seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.panels.save_case_panel", lambda *args, **others: half(args[5]))
        with pytest.raises(RuntimeError) as error:
            paint(tmp_path, **case, texture="solid", seed=2, overwrite=True, panel=True)
    assert "no space left" in map(str, causes(error.value))
    assert Output(tmp_path).files() == ["case_lefusion.nii.gz", "case_mask.nii.gz"], "no record of what is not whole"
    output = paint(tmp_path, **case, texture="solid", seed=2, resume=True)
    assert output.sidecar["settings"]["seed"] == 2
    assert output.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz"]


def test_changed_background_is_never_written(paint, tmp_path, monkeypatch):
    """Should pasting ever touch a voxel outside the masks, the case fails instead of lying about it."""
    files = save_case(tmp_path / "in")
    original = saver.from_crop

    def spilling(*args):
        read_lesions(files["image"], files["mask"])[0].stored[0, 0, 0] += 1
        return original(*args)

    monkeypatch.setattr(saver, "from_crop", spilling)
    with pytest.raises(RuntimeError) as error:
        paint(tmp_path / "out", **files, texture="solid")
    assert any("outside the mask changed" in str(cause) for cause in causes(error.value))
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------- sampling settings


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 2),
        ({"num_inference_steps": 4}, 4),
        ({"jump_n_sample": 2}, 3),  # 1 0 1 0 -1
        ({"num_inference_steps": 4, "jump_length": 2, "jump_n_sample": 3}, 8),  # 3 2 1 0 [1 2 1 0] [1 2 1 0] -1
        ({"guidance_scale": 2.0}, 4),
        ({"jump_n_sample": 2, "guidance_scale": 2.0}, 6),
    ],
)
def test_steps_jumps_and_guidance_decide_the_number_of_forwards(paint, case, tmp_path, forwards, settings, count):
    output = paint(tmp_path, **case, texture="solid", **settings)
    assert len(forwards) == 2 * count, "two lesions, one at a time"
    assert {key: output.sidecar["settings"][key] for key in settings} == settings


def test_guidance_changes_a_conditioned_lesion_and_not_an_unconditioned_one(paint, case, tmp_path):
    plain, guided = (
        paint(tmp_path / str(scale), **case, texture=["solid", "none"], guidance_scale=scale) for scale in (1.0, 3.0)
    )
    conditioned, free = (balls(lesions=[lesion]) for lesion in LESIONS)
    assert (plain.stored[conditioned] != guided.stored[conditioned]).any()
    assert np.abs(plain.stored[free].astype(int) - guided.stored[free]).max() <= 1


def test_eta_0_differs_from_eta_1(paint, case, tmp_path):
    first, second = (paint(tmp_path / str(eta), **case, texture="solid", eta=eta) for eta in (0, 1))
    assert (first.stored != second.stored)[balls()].mean() > 0.5


def test_half_precision_leaves_the_background_alone(paint, case, tmp_path):
    output = paint(tmp_path, **case, texture="solid", amp_dtype="bfloat16")
    assert np.array_equal(output.stored[~balls()], chest()[~balls()])
    assert np.mean(output.stored[balls()] != chest()[balls()]) > 0.95


def test_intermediate_states_are_kept_on_request(paint, case, tmp_path):
    output = paint(tmp_path, **case, texture="solid", save_intermediates=True, num_inference_steps=3)
    assert [name for name in output.files() if name.startswith("states")] == [
        "states/states_0000.pt",
        "states/states_0001.pt",
    ]
    content = torch.load(tmp_path / "states" / "states_0001.pt", weights_only=True)
    assert content["timesteps"].tolist() == [299, 199, 99, -1]
    assert content["states"].shape == (4, 1, 1, 16, 16, 16)
    assert content["states"][0].float().std() == pytest.approx(1, abs=0.05), "begins with noise"


@pytest.mark.parametrize("overlay", ["paper_sampler", "diffused"])
def test_overlays_run(paint, case, tmp_path, forwards, overlay):
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("inference", overlay)]
    own = save_tiny_weights(tmp_path / "own.pt", in_channels=1 if overlay == "diffused" else 2)
    jumps = {"jump_length": 1, "jump_n_sample": 2}
    output = paint(tmp_path / "out", **case, config_file=files, weights=str(own), texture="solid", **jumps)
    assert len(forwards) == 6
    assert np.array_equal(output.stored != chest(), balls())


# -------------------------------------------------------------------------------------- the commands themselves


@pytest.fixture
def commands(monkeypatch, repo_root, tmp_path) -> None:
    """Makes ``lefusion_scripts`` importable here and in processes started here, where it is not installed."""
    import importlib.util
    import os

    if importlib.util.find_spec("lefusion_scripts") is None:
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "lefusion_scripts").symlink_to(repo_root / "scripts")
        monkeypatch.syspath_prepend(tmp_path / "path")
        paths = [str(tmp_path / "path"), str(repo_root), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.mark.integration
def test_monai_s_command_paints_what_this_process_painted(repo_root, basic, case, weights, tmp_path):
    config = Path("bundles") / "lefusion_lidc" / "configs" / "inference.json"
    settings = {**TINY, "bundle_root": "bundles/lefusion_lidc", "weights": weights, "output_dir": tmp_path, "seed": 3}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    command += options(**settings, **case, texture=["solid", "random"])
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert Output(tmp_path).files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz"]
    assert np.abs(Output(tmp_path).stored.astype(int) - basic.stored).max() <= 1


@pytest.mark.integration
def test_generate_paints_from_any_folder(commands, basic, case, weights, tmp_path):
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    for path in case.values():
        shutil.copy(path, elsewhere)
    settings = {key: value for key, value in TINY.items() if key != "bundle_root"}
    command = [sys.executable, "-m", "lefusion_scripts.cli", "generate", "case.nii.gz", "label.nii.gz", "out"]
    command += options(texture="[solid,random]", seed=3, weights=weights, **settings)
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    output = Output(elsewhere / "out")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["case.nii.gz", "label.nii.gz", "out"]
    assert np.abs(output.stored.astype(int) - basic.stored).max() <= 1


def test_demo_paints_the_sample_in_every_texture_and_draws_the_picture(commands, tmp_path):
    """The demo on a copy of the bundle whose network is tiny."""
    from lefusion_scripts.demo import demo

    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLE, bundle, ignore=shutil.ignore_patterns("models", "outputs"))
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config.update(num_inference_steps=1, spatial_size=[32, 32, 32], device="cpu", panel=False)
    config["network_def"].update(TINY_NETWORK)
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    (bundle / "models").mkdir()
    save_tiny_weights(bundle / "models" / "model.pt")
    demo(str(tmp_path / "out"), str(bundle))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ground_glass",
        "part_solid",
        "solid",
        "textures.png",
    ]
    for texture in ("ground_glass", "part_solid", "solid"):
        output = Output(tmp_path / "out" / texture, "sample")
        assert {spec["texture"] for spec in output.specs} == {texture}
        before = stored_of(BUNDLE / "sample" / "ct.nii.gz")
        mask = stored_of(BUNDLE / "sample" / "mask.nii.gz") > 0
        assert np.array_equal(output.stored[~mask], before[~mask])
