"""Files that a run cannot use: missing, unreadable, and masks and scans that are not what they should be."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bundle_runs import RAS, save_nifti
from dicom_series import write_dicom_series
from faults import registrar
from small_chest import SHAPE, balls, chest, save_case

FAULTS: list[Any] = []
fault = registrar(FAULTS)


def with_scan(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, str]:
    return save_case(folder, change(chest().astype(np.float32)))


def with_mask(folder: Path, mask: np.ndarray, affine: np.ndarray = RAS) -> dict[str, str]:
    """The good scan with any mask, saved as it is."""
    return {**save_case(folder), "mask": str(save_nifti(folder / "odd.nii.gz", mask, affine))}


def marked(mask: np.ndarray, value: float) -> np.ndarray:
    """The mask as float32, with one more value in it."""
    out = mask.astype(np.float32)
    out[2, 2, 2] = value
    return out


# --------------------------------------------------------------------------------- missing and unreadable files


@fault("'../../elsewhere'")
def dataset_with_a_name_that_leaves_the_output_folder(folder):
    save_case(folder)
    entry = {"image": "case.nii.gz", "label": "label.nii.gz", "case": "../../elsewhere"}
    (folder / "datalist.json").write_text(json.dumps([entry]))
    return {"dataset_dir": str(folder)}


@fault("image", "nowhere.nii.gz does not exist")
def image_missing(folder):
    return {**save_case(folder), "image": str(folder / "nowhere.nii.gz")}


@fault("mask", "nowhere.nii.gz does not exist")
def mask_missing(folder):
    return {**save_case(folder), "mask": str(folder / "nowhere.nii.gz")}


@fault("image", "mask is missing")
def image_without_mask(folder):
    return {"image": save_case(folder)["image"]}


@fault("mask", "image is missing")
def mask_without_image(folder):
    return {"mask": save_case(folder)["mask"]}


@fault("dataset_dir", "nowhere does not exist")
def dataset_missing(folder):
    return {"dataset_dir": str(folder / "nowhere")}


@fault("dataset_dir", "empty", "neither a datalist.json nor an images/ folder")
def dataset_empty(folder):
    (folder / "empty").mkdir()
    return {"dataset_dir": str(folder / "empty")}


@fault("gone.nii.gz", "does not exist")
def dataset_entry_missing(folder):
    save_case(folder)
    entries = [{"image": "case.nii.gz", "label": "label.nii.gz"}, {"image": "gone.nii.gz", "label": "label.nii.gz"}]
    (folder / "datalist.json").write_text(json.dumps(entries))
    return {"dataset_dir": str(folder)}


@fault("two cases are named 'same'")
def dataset_with_one_name_twice(folder):
    save_case(folder)
    (folder / "datalist.json").write_text(
        json.dumps([{"image": "case.nii.gz", "label": "label.nii.gz", "case": "same"}] * 2)
    )
    return {"dataset_dir": str(folder)}


@fault("image", "case.nii.gz")
def image_no_gzip(folder):
    files = save_case(folder)
    Path(files["image"]).write_text("not a scan")
    return files


@fault("image", "case.nii.gz")
def image_no_nifti(folder):
    files = save_case(folder)
    Path(files["image"]).write_bytes(gzip.compress(b"not a scan" * 100))
    return files


@fault("image", "case.nii.gz")
def image_torn(folder):
    files = save_case(folder)
    content = Path(files["image"]).read_bytes()
    Path(files["image"]).write_bytes(content[: len(content) // 2])
    return files


@fault("image", "torn.nii")
def image_torn_and_uncompressed(folder):
    files = save_case(folder)
    path = save_nifti(folder / "torn.nii", chest())
    path.write_bytes(path.read_bytes()[:5000])
    return {**files, "image": str(path)}


@fault("image", "case.nii.gz")
def image_of_no_bytes(folder):
    files = save_case(folder)
    Path(files["image"]).write_bytes(b"")
    return files


@fault("image", "picture.png", "NIfTI", "DICOM")
def image_of_another_kind(folder):
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return {**save_case(folder), "image": str(folder / "picture.png")}


@fault("image", "case.nii.gz", "three dimensions", "(36, 32, 30, 2)")
def image_of_four_dimensions(folder):
    return save_case(folder, np.stack([chest(), chest()], axis=-1))


@fault("image", "colour.nii.gz")
def image_of_colours(folder):
    colours = np.zeros(SHAPE, dtype=[("R", np.uint8), ("G", np.uint8), ("B", np.uint8)])
    nib.save(nib.Nifti1Image(colours, RAS), folder / "colour.nii.gz")
    return {**save_case(folder), "image": str(folder / "colour.nii.gz")}


@fault("image", "complex.nii.gz")
def image_of_complex_numbers(folder):
    nib.save(nib.Nifti1Image(chest().astype(np.complex64), RAS), folder / "complex.nii.gz")
    return {**save_case(folder), "image": str(folder / "complex.nii.gz")}


@fault("mask", "label.nii.gz")
def mask_unreadable(folder):
    files = save_case(folder)
    Path(files["mask"]).write_text("not a mask")
    return files


@fault("folder", "series", "exactly one DICOM series", "holds 0")
def dicom_folder_without_slices(folder):
    (folder / "series").mkdir()
    (folder / "series" / "notes.txt").write_text("nothing here")
    return {**save_case(folder), "image": str(folder / "series")}


@fault("folder", "series", "exactly one DICOM series", "holds 2")
def dicom_folder_with_two_series(folder):
    for name in ("series", "second"):
        write_dicom_series(folder / name, chest((8, 8, 3)), (1, 1, 1), (0, 0, 0))
    for path in list((folder / "second").iterdir()):
        path.rename(folder / "series" / f"second {path.name}")
    return {**save_case(folder), "image": str(folder / "series")}


# ------------------------------------------------------------------------------------------------------- masks


@fault("mask", "odd.nii.gz", "(36, 32, 29)", "case.nii.gz", "(36, 32, 30)")
def mask_of_another_shape(folder):
    return with_mask(folder, balls()[..., 1:].astype(np.uint8))


@fault("mask", "odd.nii.gz", "another grid", "case.nii.gz", "mm")
def mask_shifted(folder):
    affine = RAS.copy()
    affine[2, 3] += 1
    return with_mask(folder, balls().astype(np.uint8), affine)


@fault("mask", "odd.nii.gz", "another grid", "case.nii.gz")
def mask_flipped(folder):
    return with_mask(folder, balls().astype(np.uint8), RAS @ np.diag([-1, 1, 1, 1]))


@fault("mask", "odd.nii.gz", "another grid", "case.nii.gz")
def mask_of_another_spacing(folder):
    return with_mask(folder, balls().astype(np.uint8), RAS @ np.diag([1, 1, 1.25, 1]))


@fault("mask", "odd.nii.gz", "empty")
def mask_empty(folder):
    return with_mask(folder, np.zeros(SHAPE, dtype=np.uint8))


@fault("mask", "odd.nii.gz", "0 and 1", "holds 2")
def mask_with_a_2(folder):
    return with_mask(folder, marked(balls(), 2))


@fault("mask", "odd.nii.gz", "0 and 1", "holds -1")
def mask_with_a_negative_value(folder):
    return with_mask(folder, marked(balls(), -1))


@fault("mask", "odd.nii.gz", "0 and 1", "holds 0.5")
def mask_with_a_half(folder):
    return with_mask(folder, marked(balls(), 0.5))


@fault("mask", "odd.nii.gz", "0 and 1", "holds nan")
def mask_with_nan(folder):
    return with_mask(folder, marked(balls(), np.nan))


@fault("lesion 2", "odd.nii.gz", "17 x 3 x 3 mm", "16 x 16 x 16 mm")
def lesion_larger_than_the_crop(folder):
    mask = balls(lesions=[((10, 10, 5), 3)])
    mask[10:27, 20:23, 20:23] = True
    return with_mask(folder, mask.astype(np.uint8))


# ------------------------------------------------------------------------------------------------------- scans


def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[7, 7, 7] = value
        return values

    return change


@fault("image", "case.nii.gz", "1 NaN or infinite")
def scan_with_nan(folder):
    return with_scan(folder, put(np.nan))


@fault("image", "case.nii.gz", "1 NaN or infinite")
def scan_with_infinity(folder):
    return with_scan(folder, put(-np.inf))


@fault("image", "case.nii.gz", "Hounsfield", "[-1, 1]")
def scan_already_scaled(folder):
    return with_scan(folder, lambda values: np.clip((values - values.min()) / np.ptp(values) * 2 - 1, -1, 1))


@fault("image", "case.nii.gz", "Hounsfield", "[0, 255]")
def scan_of_gray_values(folder):
    return with_scan(folder, lambda values: np.rint((values - values.min()) / np.ptp(values) * 255))


@fault("image", "case.nii.gz", "Hounsfield")
def scan_without_its_intercept(folder):
    return with_scan(folder, lambda values: values + 1024)
