"""Other organs from a folder of scans to a painted lesion: prepare, train, evaluate, generate."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import (
    Output,
    command,
    options,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
    scalars,
    stored_of,
)
from made_up_organs import (
    CT_SPACING,
    CYST,
    LIVER,
    MR_AFFINE,
    MR_SPACING,
    TUMOUR,
    ball,
    brain,
    save_brains,
    save_livers,
)

from lefusion_scripts.prepare_folder import prepare_folder
from lefusion_scripts.run import generate, run

NETWORK = {
    "network_def#channels": [8, 8, 8],
    "network_def#norm_num_groups": 4,
    "network_def#num_head_channels": 4,
    "network_def#context_dim": 8,
    "network_def#fine_channels": 4,
}
FEW_STEPS = {
    **NETWORK,
    "max_epochs": 2,
    "repeats": 1,
    "batch_size": 4,
    "val_repeats": 1,
    "val_interval": 1,
    "picture_interval": 2,
    "ema_start": 0,
}
SAMPLING = {**NETWORK, "num_inference_steps": 2}


def typed(line: str, folder: Path, **settings: Any) -> str:
    """Runs a ``lefusion`` command in a process of its own, with further settings; what it printed."""
    program, *words = shlex.split(line)
    assert program == "lefusion"
    process = command(*words, *options(**settings), launcher=("-m", "lefusion_scripts.cli"), cwd=folder)
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def assert_painted_inside_alone(output: Output, image: Path, label: np.ndarray, classes: dict[str, int]) -> None:
    before, lesion = stored_of(image), np.isin(label, list(classes.values()))
    assert output.stored.dtype == before.dtype
    np.testing.assert_array_equal(output.stored[~lesion], before[~lesion])
    for value in classes.values():
        assert (output.stored[label == value] != before[label == value]).mean() > 0.8
    assert {spec["lesion_class"] for spec in output.specs} == set(classes)


def means_by_class(output: Output) -> dict[str, float]:
    return {lesion["spec"]["lesion_class"]: lesion["mean_painted"] for lesion in output.sidecar["lesions"]}


@pytest.mark.integration
def test_livers_with_two_lesion_classes_by_the_commands_that_are_printed(tmp_path):
    save_livers(tmp_path / "data")
    names = 'tumour=1,cyst=2 --anatomy liver=3 --patient_regex "(liver_[0-9]+)"'
    line = f"lefusion prepare folder --images data/images --labels data/labels prepared --classes {names}"
    told = typed(line, tmp_path).splitlines()
    _, training, evaluation, generation = (text.strip() for text in told if text.startswith("  lefusion "))
    assert "train_cpu" in training
    typed(training, tmp_path, **FEW_STEPS)
    losses = scalars(tmp_path / "runs/mine/tensorboard", "train_loss")
    assert len(losses) == 6  # 12 lesions in batches of 4, twice
    assert np.isfinite(losses).all()

    typed(evaluation, tmp_path, **SAMPLING)
    with open(tmp_path / "runs/mine/evaluation/metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["class"] for row in rows] == ["tumour"] * 3 + ["cyst"] * 3
    assert {float(row["max_outside"]) for row in rows} == {0}

    healthy = tmp_path / "data" / "images" / "liver_07_0000.nii.gz"
    label = stored_of(tmp_path / "data" / "labels" / "liver_07.nii.gz")
    assert set(np.unique(label)) == {0, LIVER}
    label[ball(label.shape, (14, 20, 10), 6, CT_SPACING)] = TUMOUR
    label[ball(label.shape, (26, 22, 14), 5, CT_SPACING)] = CYST
    save_nifti(tmp_path / "mask.nii.gz", label, nib.load(healthy).affine)
    typed(generation.replace("IMAGE", str(healthy)).replace("MASK", "mask.nii.gz"), tmp_path, **SAMPLING)
    output = Output(tmp_path / "painted", "liver_07_0000")
    assert_painted_inside_alone(output, healthy, label, {"tumour": TUMOUR, "cyst": CYST})
    painted = means_by_class(output)
    assert -20 < painted["cyst"] < 40 < painted["tumour"] < 105  # real: 5, 60 to 95; the liver: 110


def run_all(root: Path, prepared: dict[str, Any], healthy: Path, mask: Path) -> Output:
    """Training, evaluation and painting in this process; what was painted."""
    bundle, config = prepared["bundle"], str(root / "prepared" / "config.json")
    data = {"dataset_dir": str(root / "prepared"), "logging_file": False}
    run("training", bundle, config, **data, output_dir=str(root / "run"), **FEW_STEPS)
    weights = str(root / "run" / "checkpoints" / "model.pt")
    run("evaluate", bundle, config, **data, weights=weights, output_dir=str(root / "evaluation"), **SAMPLING)
    summary = json.loads((root / "evaluation" / "summary.json").read_text())
    assert summary["lesions"] == 1
    (measured,) = summary["classes"].values()
    assert measured["fillings"]["painted"]["max_outside"] == 0
    settings = {"weights": weights, "logging_file": False, "progress": False, **SAMPLING}
    generate(str(healthy), str(mask), str(root / "painted"), bundle=bundle, config=config, **settings)
    return Output(root / "painted", "healthy")


def test_bright_lesions_in_thick_stacks_of_mr_with_units_of_their_own(tmp_path):
    save_brains(tmp_path / "data")
    prepared = prepare_folder(str(tmp_path / "prepared"), str(tmp_path / "data/images"), str(tmp_path / "data/labels"))
    image, label = brain(seed=3, lesion=False)
    healthy = save_nifti(tmp_path / "healthy.nii.gz", image, MR_AFFINE)
    output = run_all(tmp_path, prepared, healthy, save_nifti(tmp_path / "mask.nii.gz", label, MR_AFFINE))
    assert_painted_inside_alone(output, healthy, label, {"lesion": 1})
    around = np.median(image[ball(image.shape, (20, 18, 4), 15, MR_SPACING) & (label == 0)])
    assert 1.7 * around < means_by_class(output)["lesion"] < 2.6 * around  # real: 2.25 times the head's signal


def test_one_class_in_ct_on_the_nearest_bundle_of_one_class(tmp_path):
    save_livers(tmp_path / "data", {TUMOUR: 5, CYST: 0, LIVER: 0})
    folders = str(tmp_path / "data" / "images"), str(tmp_path / "data" / "labels")
    prepared = prepare_folder(str(tmp_path / "prepared"), *folders, classes={"tumour": 5}, patient_regex=r"liver_\d+")
    assert prepared["bundle"] == "lefusion_lidc"
    source = nib.load(tmp_path / "data" / "images" / "liver_07_0000.nii.gz")
    healthy = save_nifti(tmp_path / "healthy.nii.gz", stored_of(source.get_filename()), source.affine)
    label = 5 * ball(source.shape, (14, 20, 10), 6, CT_SPACING).astype(np.uint8)
    mask = save_nifti(tmp_path / "mask.nii.gz", label, source.affine)
    output = run_all(tmp_path, prepared, healthy, mask)
    assert_painted_inside_alone(output, healthy, label, {"tumour": 5})
    assert 40 < means_by_class(output)["tumour"] < 105
