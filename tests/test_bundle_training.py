"""The training side of the bundle, run as its users run it: command, cases, overlays and several processes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import (
    assert_trained_alike,
    command,
    files_below,
    latest,
    same,
    scalars,
    train_in_two_processes,
    weights,
)
from lung_training import (
    BUNDLE,
    CONFIGS,
    NUM_CASES,
    NUM_VALIDATION,
    STEPS_PER_EPOCH,
    TINY,
    dataset_dir_fixture,  # noqa: F401 (a fixture)
    train,
    validation_patients,
    workflow,
)
from matplotlib import pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# What a training leaves behind


@pytest.fixture(scope="module")
def commanded(dataset_dir, tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path, dict]:
    """The documented command, run in an empty folder: the finished process, its output folder, the overrides."""
    root = tmp_path_factory.mktemp("commanded")
    (root / "cwd").mkdir()
    overrides = {
        **TINY,
        "config_file": CONFIGS / "train.json",
        "bundle_root": BUNDLE,
        "dataset_dir": dataset_dir,
        "output_dir": root / "out",
        "picture_interval": 2,
    }
    return command("run", "training", cwd=root / "cwd", **overrides), root, overrides


@pytest.mark.integration
def test_training_command_writes_weights_checkpoint_curves_and_pictures(commanded):
    process, root, _ = commanded
    assert process.returncode == 0, process.stderr
    assert "nvImageCodec" not in process.stderr  # a notice of MONAI that frightens, and concerns DICOM alone
    out = root / "out"
    written = sorted(files_below(out))
    events = [name for name in written if name.startswith("tensorboard/")]
    assert len(events) == 1
    assert sorted(set(written) - set(events)) == [
        "checkpoints/checkpoint_latest.pt",
        "checkpoints/model.pt",
        "checkpoints/model_final.pt",
        "pictures/samples_epoch_0002.png",
    ]
    assert files_below(root / "cwd") == {}
    assert latest(out)["epoch"] == 2
    assert latest(out)["iteration"] == 2 * STEPS_PER_EPOCH
    assert len(scalars(out / "tensorboard", "train_loss")) == 2 * STEPS_PER_EPOCH
    assert len(scalars(out / "tensorboard", "val_loss")) == 2
    curves = EventAccumulator(str(out / "tensorboard"))
    curves.Reload()
    assert curves.Tags()["images"] == ["samples"]
    picture = plt.imread(out / "pictures" / "samples_epoch_0002.png")
    assert min(picture.shape[:2]) > 100
    assert picture.std() > 0.05


@pytest.mark.integration
def test_published_weights_hold_plain_tensors_only(commanded):
    _, root, _ = commanded
    for name in ("model.pt", "model_final.pt"):
        state = weights(root / "out", name)
        assert len(state) > 100
        assert {type(value) for value in state.values()} == {torch.Tensor}
        assert not any(value.requires_grad for value in state.values())
    assert weights(root / "out").keys() == latest(root / "out")["network"].keys()


@pytest.mark.integration
def test_repeated_command_is_refused_in_one_sentence(commanded):
    _, root, overrides = commanded
    before = files_below(root / "out" / "checkpoints")
    process = command("run", "training", cwd=root / "cwd", **overrides)
    assert process.returncode != 0
    assert "Traceback" not in process.stderr
    errors = [line for line in process.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "checkpoint_latest.pt exists: pass --resume true" in errors[0]
    assert files_below(root / "out" / "checkpoints") == before


def test_training_without_validation_still_publishes_weights(dataset_dir, tmp_path):
    out = train(dataset_dir, tmp_path, val_fraction=0, max_epochs=1)
    assert same(weights(out, "model.pt"), weights(out))


def test_first_weights_follow_the_seed_alone(dataset_dir, tmp_path):
    def first_weights(seed: int, noise: int) -> dict[str, torch.Tensor]:
        flow = workflow(["train.json"], dataset_dir, tmp_path, seed=seed)
        torch.manual_seed(noise)
        flow.initialize()
        return flow.parser.get_parsed_content("network_def").state_dict()

    assert same(first_weights(0, noise=1), first_weights(0, noise=2))
    assert not same(first_weights(0, noise=1), first_weights(1, noise=1))


def test_training_never_sees_a_validation_patient(dataset_dir, tmp_path):
    flow = workflow(["train.json"], dataset_dir, tmp_path)
    flow.initialize()
    seen = {section: flow.parser.get_parsed_content(f"{section}#dataset#data") for section in ("train", "validate")}
    patients = {section: sorted(case["patient"] for case in cases) for section, cases in seen.items()}
    assert patients["validate"] == sorted(validation_patients())
    assert len(patients["train"]) == NUM_CASES - NUM_VALIDATION
    assert not set(patients["train"]) & set(patients["validate"])


# Overlays


@pytest.mark.parametrize("overlays", [["train_cpu.json"], ["diffused.json"], ["train_cpu.json", "diffused.json"]])
def test_overlays_merge_and_train(dataset_dir, tmp_path, overlays):
    trainers = []
    out = train(dataset_dir, tmp_path, *overlays, prepare=trainers.append)
    trainer = trainers[0]
    diffused = "diffused.json" in overlays
    assert trainer.inferer.context == ("diffused" if diffused else "clean")
    assert trainer.network.unet.conv_in.conv.in_channels == (1 if diffused else 2) * 2**3
    rate = trainer.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-5 if "train_cpu.json" in overlays else 1e-4)
    assert np.isfinite(scalars(out / "tensorboard", "train_loss")).all()
    assert np.isfinite(scalars(out / "tensorboard", "val_loss")).all()
    torch.manual_seed(7)
    untrained = workflow(["train.json", *overlays], dataset_dir, out)
    untrained.initialize()
    first = untrained.parser.get_parsed_content("network_def").state_dict()
    assert any(not torch.equal(first[key], value) for key, value in latest(out)["network"].items())


# Several processes


@pytest.mark.integration
def test_two_processes_train_like_one_with_the_same_global_batch(dataset_dir, tmp_path):
    # One training case has no lesion: the other process must not count it either.
    scans = tmp_path / "scans"
    shutil.copytree(dataset_dir, scans)
    cases = json.loads((scans / "datalist.json").read_text())
    empty = next(case["label"] for case in cases if case["patient"] not in validation_patients())
    nib.save(nib.Nifti1Image(np.zeros((20, 20, 20), np.uint8), np.eye(4)), scans / empty)
    settings = {"max_epochs": 3, "learning_rate": 0.001, "ema_decay": 0.5}
    train_in_two_processes(BUNDLE, scans, tmp_path, **{**TINY, **settings, "batch_size": 1})
    train(scans, tmp_path / "alone", **settings)
    assert_trained_alike(tmp_path, tmp_path / "alone", 3 * STEPS_PER_EPOCH)
    assert sorted(name.split("/")[0] for name in files_below(tmp_path / "out_0")) == [
        *["checkpoints"] * 3,
        "tensorboard",
    ]
