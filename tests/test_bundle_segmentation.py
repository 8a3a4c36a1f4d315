"""The segmentation bundle, trained, measured and used by its real workflows with tiny networks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import (
    causes,
    command,
    execute,
    latest,
    same,
    save_nifti,
    scalars,
    stored_of,
    training_workflow,
    weights,
)
from monai.bundle import ConfigWorkflow
from segmentation_runs import (
    BUNDLE,
    RAS,
    TINY,
    TINY_HEART,
    TINY_SWIN,
    ball,
    save_case,
    save_hearts,
    save_manifest,
    save_nodules,
    summary_of,
)

from custom_components.errors import InputError
from lefusion_scripts.run import run

SWIN = {key: value for key, value in TINY.items() if key not in ("strides", "kernel_size")} | TINY_SWIN


@pytest.fixture(scope="module")
def nodules(tmp_path_factory) -> Path:
    return save_nodules(tmp_path_factory.mktemp("nodules"))


@pytest.fixture(scope="module")
def hearts(tmp_path_factory) -> Path:
    return save_hearts(tmp_path_factory.mktemp("hearts"))


def train(data: Path, output: Path, *overlays: str, **overrides: Any) -> None:
    execute(training_workflow(BUNDLE, ["train.json", *overlays], data, output, **overrides))


def evaluate(output: Path, weights_file: Path, *overlays: str, **overrides: Any) -> None:
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", "evaluate.json", *overlays)]
    settings = {"bundle_root": str(BUNDLE), "weights": str(weights_file), "output_dir": str(output), **overrides}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.excepthook", None)
        flow = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **settings)
        flow.initialize()
        flow.run()
        flow.finalize()


def segment(**overrides: Any) -> None:
    """The inference workflow in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.excepthook", None)
        run("inference", str(BUNDLE), **{"progress": False, **overrides})


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
    network = {
        key: value for key, value in settings.items() if key in ("width", "kernel_size", "strides", "spatial_size")
    }
    depth = {key: value for key, value in settings.items() if key.startswith("network_def#")}
    image = next((data / "images").iterdir())
    segment(config=overlays, image=str(image), weights=str(file), output_dir=str(tmp_path / "seg"), **network)
    (found,) = (tmp_path / "seg").glob("*_segmentation.nii.gz")
    assert nib.load(found).shape == nib.load(image).shape
    assert set(np.unique(stored_of(found))) <= ({0, 3, 4} if heart else {0, 1})


# ----------------------------------------------------------------------------------------- evaluation


class Threshold(torch.nn.Module):
    """Stands in for a trained network: bright voxels are lesion."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = (torch.as_tensor(x) > 0).float()
        return torch.cat([1 - bright, bright], dim=1) * 20


@pytest.fixture
def threshold(monkeypatch, tmp_path) -> dict[str, Any]:
    """Overrides under which the network is that of :class:`Threshold`."""
    monkeypatch.setattr("monai.networks.nets.DynUNet", Threshold)
    torch.save(Threshold().state_dict(), tmp_path / "threshold.pt")
    return {"device": "cpu", "weights": str(tmp_path / "threshold.pt"), "network_def#_target_": f"{__name__}.Threshold"}


def test_measures_are_those_of_known_cases(threshold, tmp_path):
    """Painted as bright: what is found. Labelled: the truth. Known overlaps, an empty reference and an empty case."""
    shape, affine = (24, 24, 20), np.diag([1.0, 1.0, 1.5, 1.0])
    truth = np.zeros(shape)
    truth[6:14, 6:14, 6:14] = 1
    half = np.zeros(shape)
    half[6:14, 6:14, 10:14] = 1
    nothing = np.zeros(shape)
    for name, found, label in (
        ("exact", truth, truth),
        ("half", half, truth),
        ("missed", nothing, truth),
        ("false", truth, nothing),
        ("none", nothing, nothing),
        ("anatomy", truth, np.where(truth, 1, 7)),
    ):
        save_case(tmp_path / "data", name, found, affine)
        save_nifti(tmp_path / "data" / "labels" / f"{name}.nii.gz", label.astype(np.uint8), affine)
    lists = {"test_lists": [str(tmp_path / "data")], "spacing_mm": [1.0, 1.0, 1.5], "spatial_size": [16, 16, 16]}
    file = threshold.pop("weights")
    evaluate(tmp_path / "out", file, **threshold, **lists, nsd_tolerance_mm=1.0)
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "metrics.csv").open())}
    dice = {name: row["dice"] for name, row in rows.items()}
    assert dice.pop("none") == rows["none"]["nsd"] == ""
    expected = {"exact": 1, "anatomy": 1, "half": 2 / 3, "missed": 0, "false": 0}
    assert {name: float(value) for name, value in dice.items()} == pytest.approx(expected)
    # Border voxels: 296 of the truth, 184 of the half. 148 they share. The half's inner face has 36 more, of which those
    # beside the truth's sides, 20, are 1 mm from them. All that the half misses of the truth lies 1.5 mm off or farther.
    assert float(rows["half"]["nsd"]) == pytest.approx((148 + 20 + 148) / (296 + 184))
    summary = summary_of(tmp_path / "out")
    assert summary["cases"] == 6
    lesion = summary["classes"]["lesion"]
    assert lesion["excluded"] == 1
    assert lesion["dice"]["n"] == 5
    assert lesion["dice"]["mean"] == pytest.approx(np.mean(list(expected.values())))
    assert lesion["dice"]["sd"] == pytest.approx(np.std(list(expected.values()), ddof=1))
    assert float(rows["half"]["predicted_ml"]) == pytest.approx(256 * 1.5 / 1000)


def test_earlier_measures_are_not_overwritten(threshold, nodules, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    with pytest.raises(Exception) as error:
        evaluate(tmp_path / "out", threshold.pop("weights"), **threshold, test_lists=[str(nodules)])
    assert any(isinstance(cause, InputError) and "--overwrite true" in str(cause) for cause in causes(error.value))


# ----------------------------------------------------------------------------------------- inference


def askew() -> np.ndarray:
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.array([[0, -0.8, 0], [0.8, 0, 0], [0, 0, 2.0]]), (-20, 31, 7)
    return affine


def test_label_map_lies_on_the_scan_s_own_grid_with_the_class_s_value(threshold, tmp_path):
    label = ball((40, 36, 16), (22, 14, 8), 7)
    scan = save_case(tmp_path, "ct", label, askew())
    segment(image=str(scan), output_dir=str(tmp_path / "out"), lesion_classes={"lesion": 5}, **threshold)
    found = nib.load(tmp_path / "out" / "ct_segmentation.nii.gz")
    np.testing.assert_allclose(found.affine, nib.load(scan).affine, atol=1e-5)
    values = stored_of(tmp_path / "out" / "ct_segmentation.nii.gz")
    assert values.dtype == np.uint8
    assert set(np.unique(values)) == {0, 5}
    assert 2 * ((values == 5) & label).sum() / ((values == 5).sum() + label.sum()) > 0.9
    record = json.loads((tmp_path / "out" / "ct_segmentation.json").read_text())
    assert record["bundle"]["name"] == "lesion_segmentation"
    assert record["volume_ml"]["lesion"] == pytest.approx((values == 5).sum() * 0.8 * 0.8 * 2 / 1000, rel=1e-3)
    assert (tmp_path / "out" / "ct_panel.png").stat().st_size > 5000


def test_folder_of_scans_needs_no_labels_and_is_completed(threshold, tmp_path):
    for name in "ab":
        save_case(tmp_path / "data", name, ball((20, 20, 20), (9, 9, 9), 4))
    for path in (tmp_path / "data" / "labels").iterdir():
        path.unlink()
    settings = {**threshold, "dataset_dir": str(tmp_path / "data"), "output_dir": str(tmp_path / "out"), "panel": False}
    segment(**settings)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{n}_segmentation.{kind}" for n in "ab" for kind in ("json", "nii.gz")]
    (tmp_path / "out" / "b_segmentation.json").unlink()
    before = (tmp_path / "out" / "a_segmentation.json").stat().st_mtime_ns
    with pytest.raises(Exception) as error:
        segment(**settings)
    assert any(isinstance(cause, InputError) and "exists already" in str(cause) for cause in causes(error.value))
    segment(**settings, resume=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "a_segmentation.json").stat().st_mtime_ns == before


def test_mirroring_changes_nothing_for_a_network_that_knows_no_sides(threshold, tmp_path):
    scan = save_case(tmp_path, "ct", ball((20, 20, 20), (9, 8, 11), 4), RAS)
    for name, axes in (("plain", None), ("mirrored", [0, 1, 2])):
        segment(image=str(scan), output_dir=str(tmp_path / name), mirror_axes=axes, panel=False, **threshold)
    first, second = (stored_of(tmp_path / name / "ct_segmentation.nii.gz") for name in ("plain", "mirrored"))
    assert first.any()
    assert np.array_equal(first, second)
