"""Bad input: one sentence that names what is at fault, before any sampling, and nothing is written."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import RAS, options, save_nifti, snapshot
from dicom_series import write_dicom_series
from lung_runs import TINY, commands_fixture, run_workflow, save_tiny_weights  # noqa: F401 (a fixture)
from small_chest import SHAPE, balls, chest, save_case

from custom_components.errors import find_input_error
from custom_components.networks import HistogramUNet

Fault = Callable[[Path], dict[str, Any]]
FAULTS: list[Any] = []


def fault(*told: str) -> Callable[[Fault], Fault]:
    """Registers what makes the overrides of a faulty run in a folder, and what its error has to tell."""

    def register(make: Fault) -> Fault:
        FAULTS.append(pytest.param(make, told, id=make.__name__))
        return make

    return register


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


# ---------------------------------------------------------------------------------------------------- textures


@fault("texture", "'sold'", "ground_glass", "part_solid", "solid", "random", "none")
def texture_unknown(folder):
    return {**save_case(folder), "texture": "sold"}


@fault("texture", "'sold'", "solid")
def texture_of_one_lesion_unknown(folder):
    return {**save_case(folder), "texture": ["solid", "sold"]}


@fault("texture", "3", "2 lesions")
def textures_for_other_than_the_lesions(folder):
    return {**save_case(folder), "texture": ["solid"] * 3}


@fault("histogram", "16", "15")
def histogram_too_short(folder):
    return {**save_case(folder), "texture": [1 / 15] * 15}


@fault("histogram", "16", "17")
def histogram_too_long(folder):
    return {**save_case(folder), "texture": [1 / 17] * 17}


@fault("histogram", "negative", "-0.5")
def histogram_negative(folder):
    return {**save_case(folder), "texture": [1.5, -0.5, *[0.0] * 14]}


@fault("histogram", "sum to 1", "0.8")
def histogram_of_another_sum(folder):
    return {**save_case(folder), "texture": [0.05] * 16}


@fault("histogram", "NaN")
def histogram_with_nan(folder):
    return {**save_case(folder), "texture": [float("nan"), *[1 / 15] * 15]}


@fault("histogram", "sum to 1", "0.8")
def histogram_of_the_second_lesion_of_another_sum(folder):
    return {**save_case(folder), "texture": ["solid", [0.05] * 16]}


@fault("texture presets", "nowhere.json")
def presets_missing(folder):
    return {**save_case(folder), "texture_presets": str(folder / "nowhere.json")}


@fault("texture weight", "'sold'")
def texture_weight_of_an_unknown_texture(folder):
    return {**save_case(folder), "texture_weights": {"sold": 1}}


@fault("perturbation", "1.5")
def perturbation_too_large(folder):
    return {**save_case(folder), "texture_perturbation": 1.5}


@fault("replay", "nowhere.json")
def replay_missing(folder):
    return {**save_case(folder), "replay": str(folder / "nowhere.json")}


@fault("replay", "other.json")
def replay_of_something_else(folder):
    (folder / "other.json").write_text('{"lesions": [1, 2]}')
    return {**save_case(folder), "replay": str(folder / "other.json")}


@fault("replay", "part.json", "seed")
def replay_of_a_record_that_lacks_the_seeds(folder):
    spec = {"lesion_class": "lesion", "texture": "solid", "histogram": [1 / 16] * 16}
    lesions = [{"spec": {"lesion": number, **spec}} for number in (1, 2)]
    (folder / "part.json").write_text(json.dumps({"lesions": lesions}))
    return {**save_case(folder), "replay": str(folder / "part.json")}


@fault("record.json", "1 lesion", "2")
def replay_of_another_number_of_lesions(folder):
    spec = {"lesion": 1, "lesion_class": "lesion", "texture": "solid", "histogram": [1 / 16] * 16, "seed": 1}
    (folder / "record.json").write_text(json.dumps({"lesions": [{"spec": spec}]}))
    return {**save_case(folder), "replay": str(folder / "record.json")}


# ------------------------------------------------------------------------------------------ settings and weights


def setting(key: str, value: Any, *told: str) -> None:
    """Registers one bad value of a key."""

    def make(folder: Path) -> dict[str, Any]:
        return {**save_case(folder), key: value}

    make.__name__ = f"{key} {value}"
    fault(key, str(value), *told)(make)


setting("num_inference_steps", 0, "from 1 to 300")
setting("num_inference_steps", -3, "from 1 to 300")
setting("num_inference_steps", 301, "from 1 to 300")
setting("num_inference_steps", 2.5, "whole number")
setting("num_inference_steps", "ten", "whole number")
setting("jump_length", 0)
setting("jump_n_sample", 0)
setting("eta", 1.5)
setting("context", "dirty", "diffused", "clean")
setting("spatial_size", [20, 20, 20], "8")
setting("prediction_type", "noise")
setting("hu_window", [400, -1000])


@fault("output_dir", "taken")
def output_dir_is_a_file(folder):
    (folder / "taken").touch()
    return {**save_case(folder), "output_dir": str(folder / "taken")}


@fault("weights", "nowhere.pt does not exist")
def weights_missing(folder):
    return {**save_case(folder), "weights": str(folder / "nowhere.pt")}


@fault("weights", "torn.pt")
def weights_unreadable(folder):
    path = save_tiny_weights(folder / "torn.pt")
    path.write_bytes(path.read_bytes()[:1000])
    return {**save_case(folder), "weights": str(path)}


def with_weights(folder: Path, change: Callable[[dict], Any]) -> dict[str, Any]:
    path = save_tiny_weights(folder / "odd.pt")
    state = dict(torch.load(path, weights_only=True))
    change(state)
    torch.save(state, path)
    return {**save_case(folder), "weights": str(path)}


@fault("odd.pt", "lacks", "'bin_height.bias'")
def weights_that_lack_a_key(folder):
    return with_weights(folder, lambda state: state.pop("bin_height.bias"))


@fault("odd.pt", "'surplus'", "network lacks")
def weights_with_a_key_too_many(folder):
    return with_weights(folder, lambda state: state.update(surplus=torch.zeros(1)))


@fault("odd.pt", "'bin_embedding'", "(16, 9)", "(16, 8)")
def weights_of_another_size(folder):
    return with_weights(folder, lambda state: state.update(bin_embedding=torch.zeros(16, 9)))


# ------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.pt")


@pytest.fixture(autouse=True)
def _no_sampling(monkeypatch):
    """The network must not be called; and the excepthook that a bundle installs must not outlive a test."""
    monkeypatch.setattr(HistogramUNet, "forward", lambda *args, **kwargs: pytest.fail("sampling has begun"))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def told_by(overrides: dict[str, Any]) -> str:
    """The sentence that a faulty run ends with."""
    with pytest.raises(Exception) as error:  # MONAI wraps it in errors of several kinds
        run_workflow(**{**TINY, **overrides})
    cause = find_input_error(error.value)
    assert cause is not None, f"no InputError, but {error.value!r}"
    return str(cause)


@pytest.mark.parametrize(("make", "told"), FAULTS)
def test_fault_is_told_in_one_sentence_before_any_sampling_and_nothing_is_written(make, told, tmp_path, weights):
    (tmp_path / "in").mkdir()
    overrides = {"weights": str(weights), "output_dir": str(tmp_path / "out"), **make(tmp_path / "in")}
    before = snapshot(tmp_path)
    message = told_by(overrides)
    assert "\n" not in message
    for part in told:
        assert part in message
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["case_lefusion.nii.gz", "case_mask.nii.gz", "case_panel.png", "case_lefusion.json"])
def test_existing_output_is_named_and_left_alone(file, tmp_path, weights):
    files = save_case(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / file).write_text("precious")
    message = told_by({**files, "weights": str(weights), "output_dir": str(tmp_path / "out")})
    assert str(tmp_path / "out" / file) in message
    assert "overwrite" in message
    assert snapshot(tmp_path / "out") == {file: b"precious"}


def test_fault_of_the_last_case_stops_the_first_one_from_being_painted(tmp_path, weights):
    for name, mask in (("a", balls()), ("b", np.zeros(SHAPE, dtype=bool))):
        save_nifti(tmp_path / "data" / "images" / f"{name}.nii.gz", chest())
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", mask.astype(np.uint8))
    message = told_by(
        {"dataset_dir": str(tmp_path / "data"), "weights": str(weights), "output_dir": str(tmp_path / "out")}
    )
    assert "b.nii.gz is empty" in message
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------- what the user reads


@pytest.fixture
def empty_mask(tmp_path) -> dict[str, str]:
    files = save_case(tmp_path / "in", mask=np.zeros(SHAPE, dtype=bool))
    assert not nib.load(files["mask"]).get_fdata().any()
    return files


def check_told(result: subprocess.CompletedProcess, code: int, sentence: str) -> None:
    assert result.returncode == code
    assert [line for line in result.stderr.splitlines() if line.startswith("error:")] == [f"error: {sentence}"]
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.integration
def test_monai_s_command_prints_the_sentence_and_no_traceback(repo_root, empty_mask, weights, tmp_path):
    config = "bundles/lefusion_lidc/configs/inference.json"
    settings = {**TINY, "bundle_root": "bundles/lefusion_lidc", "weights": weights, "output_dir": tmp_path / "out"}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config]
    result = subprocess.run(
        [*command, *options(**settings, **empty_mask)], cwd=repo_root, capture_output=True, text=True, check=False
    )
    check_told(result, 1, f"mask {empty_mask['mask']} is empty.")
    assert not (tmp_path / "out").exists()


@pytest.mark.integration
@pytest.mark.usefixtures("commands")
def test_lefusion_prints_the_sentence_and_no_traceback(empty_mask, weights, tmp_path):
    settings = {key: value for key, value in TINY.items() if key != "bundle_root"}
    command = [sys.executable, "-m", "lefusion_scripts.cli", "generate", *empty_mask.values(), "out"]
    command += options(weights=weights, **settings)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    check_told(result, 2, f"mask {empty_mask['mask']} is empty.")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("num_inference_step", "num_inference_steps"),
        ("sede", "seed"),
        ("textures", "texture"),
        ("over_write", "overwrite"),
        ("guidance", "guidance_scale"),
        ("network_def#chanels", "network_def#channels"),
    ],
)
@pytest.mark.parametrize("command", ["run", "generate"])
def test_unknown_key_is_refused_and_the_right_one_suggested(command, typo, meant, tmp_path, monkeypatch, capsys):
    from lefusion_scripts import cli

    files = save_case(tmp_path / "in")
    arguments = ["generate", *files.values(), str(tmp_path / "out")]
    if command == "run":
        arguments = ["run", "inference", *options(**files, output_dir=tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["lefusion", *arguments, f"--{typo}", "3"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: the configs have no key {typo!r}; did you mean {meant!r}?\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "inferense"], ["workflow", "inference", "'inferense'"]),
        (["run", "--bundle", "lefusion_lid"], ["bundle", "lefusion_lid", "lefusion_lidc"]),
        (["run", "--config", "paper"], ["config", "paper", "configs"]),
    ],
)
def test_unknown_workflow_bundle_or_overlay_is_named(arguments, told, monkeypatch, capsys):
    from lefusion_scripts import cli

    monkeypatch.setattr(sys, "argv", ["lefusion", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    for part in told:
        assert part in line
