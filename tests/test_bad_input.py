"""Bad input: one sentence that names what is at fault, before any sampling, and nothing is written."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import faulty_files
import faulty_settings
import nibabel as nib
import numpy as np
import pytest
from bundle_runs import options, save_nifti, snapshot
from lung_runs import (
    TINY,
    commands_fixture,  # noqa: F401 (a fixture)
    run_workflow,
    weights_fixture,  # noqa: F401 (a fixture)
)
from small_chest import SHAPE, balls, chest, save_case

from custom_components.errors import find_input_error
from custom_components.networks import HistogramUNet

# ----------------------------------------------------------------------------------------- before any sampling


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


@pytest.mark.parametrize(("make", "told"), [*faulty_files.FAULTS, *faulty_settings.FAULTS])
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
