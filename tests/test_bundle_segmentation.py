"""The segmentation bundle, trained, measured and used by its real workflows with tiny networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import (
    causes,
    command,
    latest,
    same,
    scalars,
    stored_of,
    weights,
)
from segmentation_runs import (
    TINY,
    TINY_HEART,
    TINY_SWIN,
    evaluate,
    save_case,
    save_hearts,
    save_manifest,
    save_nodules,
    segment,
    summary_of,
    train,
)

from custom_components.errors import InputError

SWIN = {key: value for key, value in TINY.items() if key not in ("strides", "kernel_size")} | TINY_SWIN


@pytest.fixture(scope="module")
def nodules(tmp_path_factory) -> Path:
    return save_nodules(tmp_path_factory.mktemp("nodules"))


@pytest.fixture(scope="module")
def hearts(tmp_path_factory) -> Path:
    return save_hearts(tmp_path_factory.mktemp("hearts"))


# ----------------------------------------------------------------------------------------- training


@pytest.mark.integration
def test_command_trains_on_a_mixture_and_measures_it_on_its_own_lists(nodules, tmp_path):
    """Both commands, as a person gives them: a datalist's section, a synthetic set, a list for the test."""
    save_nodules(tmp_path / "painted", ["a_s1", "a_s2"])
    save_manifest(tmp_path / "painted", {"a_s1": "a", "a_s2": "a"})
    entries = [
        {"image": str(nodules / "images" / f"{n}.nii.gz"), "label": str(nodules / f"labels/{n}.nii.gz")} for n in "abcd"
    ]
    (tmp_path / "parts.json").write_text(json.dumps({"training": entries[:3], "test": entries[3:]}))
    tiny = {key: value for key, value in TINY.items() if key not in ("max_epochs", "val_interval")}
    train_lists = f"[{tmp_path}/parts.json#training*2,{tmp_path}/painted]"
    common = {"bundle": "lesion_segmentation", "config": "[train_cpu]", **tiny}
    launcher = ("-m", "lefusion_scripts.cli")
    trained = command(
        "run",
        "training",
        launcher=launcher,
        cwd=tmp_path,
        **common,
        train_lists=train_lists,
        val_lists=f"[{tmp_path}/parts.json#test]",
        seed=3,
        output_dir="D",
        max_epochs=1,
        val_interval=1,
    )
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "warning" not in trained.stderr
    measured = command(
        "run",
        "evaluate",
        launcher=launcher,
        cwd=tmp_path,
        **common,
        weights="D/checkpoints/model.pt",
        test_lists=f"[{tmp_path}/parts.json#test]",
        output_dir="E",
    )
    assert measured.returncode == 0, measured.stderr[-3000:]
    summary = summary_of(tmp_path / "E")
    assert summary["cases"] == 1
    assert set(summary["classes"]["lesion"]["dice"]) == {"mean", "sd", "n"}


def test_network_learns_what_is_bright(nodules, tmp_path):
    settings = {**TINY, "max_epochs": 8, "steps_per_epoch": 5, "val_interval": 8, "learning_rate": 0.02}
    train(nodules, tmp_path / "run", **settings)
    losses = scalars(tmp_path / "run" / "tensorboard", "train_loss")
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert scalars(tmp_path / "run" / "tensorboard", "val_loss")[-1] < 0.5
    evaluate(tmp_path / "out", tmp_path / "run" / "checkpoints" / "model.pt", **TINY, dataset_dir=str(nodules))
    (row,) = csv.DictReader((tmp_path / "out" / "metrics.csv").open())
    assert float(row["dice"]) == pytest.approx(summary_of(tmp_path / "out")["classes"]["lesion"]["dice"]["mean"])
    assert float(row["dice"]) > 0.5
    assert (tmp_path / "out" / "cases.png").stat().st_size > 5000


def test_resumed_training_is_the_one_that_was_not_interrupted(nodules, tmp_path):
    train(nodules, tmp_path / "whole", **TINY)
    train(nodules, tmp_path / "parts", **{**TINY, "train#trainer#max_epochs": 1})
    train(nodules, tmp_path / "parts", **TINY, resume=True)
    assert latest(tmp_path / "whole")["iteration"] == 4
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_training_without_any_lesion_is_refused(tmp_path):
    for name in "abcd":
        save_case(tmp_path / "healthy", name, np.zeros((20, 20, 20)))
    with pytest.raises(Exception) as error:
        train(tmp_path / "healthy", tmp_path / "run", **TINY)
    assert any(isinstance(cause, InputError) and "holds a lesion" in str(cause) for cause in causes(error.value))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_existing_checkpoint_is_not_overwritten(nodules, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({}, tmp_path / "checkpoints" / "checkpoint_latest.pt")
    with pytest.raises(Exception) as error:
        train(nodules, tmp_path, **TINY)
    assert any(isinstance(cause, InputError) and "--resume true" in str(cause) for cause in causes(error.value))


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_do_not_depend_on_the_number_of_cases(nodules, tmp_path, steps):
    train(nodules, tmp_path, **{**TINY, "steps_per_epoch": steps, "max_epochs": 1})
    assert latest(tmp_path)["iteration"] == steps


@pytest.mark.parametrize(
    ("overlays", "settings"),
    [
        (["swinunetr.json"], SWIN),
        (["heart.json"], TINY_HEART),
        (["heart.json", "swinunetr.json"], {**SWIN, "spatial_size": [32, 32, 4]}),
    ],
    ids=["swinunetr", "heart", "heart swinunetr"],
)
def test_overlay_trains_measures_and_segments(nodules, hearts, tmp_path, overlays, settings):
    heart = "heart.json" in overlays
    data = hearts if heart else nodules
    settings = {**settings, "max_epochs": 1, "steps_per_epoch": 1, "val_interval": 1}
    lists = {"train_lists": [str(data)], "val_lists": [str(data)]}
    train(data, tmp_path / "run", *overlays, **settings, **lists)
    file = tmp_path / "run" / "checkpoints" / "model.pt"
    evaluate(tmp_path / "out", file, *overlays, **settings, test_lists=[str(data)])
    classes = summary_of(tmp_path / "out")["classes"]
    assert list(classes) == (["mi", "pmo"] if heart else ["lesion"])
    known = ("width", "kernel_size", "strides", "spatial_size", *TINY_SWIN)
    network = {key: value for key, value in settings.items() if key in known}
    image = next((data / "images").iterdir())
    segment(config=overlays, image=str(image), weights=str(file), output_dir=str(tmp_path / "seg"), **network)
    (found,) = (tmp_path / "seg").glob("*_segmentation.nii.gz")
    assert nib.load(found).shape == nib.load(image).shape
    assert set(np.unique(stored_of(found))) <= ({0, 3, 4} if heart else {0, 1})
