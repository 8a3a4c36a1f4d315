"""The cardiac bundle trained with a tiny network: its variants, resuming, processes and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import (
    assert_trained_alike,
    execute,
    files_below,
    latest,
    same,
    same_excepthook,  # noqa: F401 (a fixture)
    save_nifti,
    scalars,
    stored_of,
    train_in_two_processes,
    training_workflow,
    weights,
)
from cardiac_runs import (
    BUNDLE,
    MI,
    PMO,
    TINY,
    paint_fixture,  # noqa: F401 (a fixture)
    save_case,
)
from monai.engines import SupervisedEvaluator
from thick_stacks import STORED_WAYS, TILTS, affine_of, ring, signal, stored_as

from custom_components.errors import find_input_error

# The paper's variants: jointly or separately painted classes, with and without histogram (-H).
VARIANTS = {
    "J-H": [],
    "J": ["no_histogram"],
    "S-H": ["mi_only"],
    "S": ["pmo_only", "no_histogram"],
}


# ----------------------------------------------------------------------------------------- training


PATIENTS, HELD_OUT = "abcdef", ["b", "e"]
TRAINING = {
    **TINY,
    "network_def#fine_channels": 4,
    "spatial_size": [24, 24, 6],
    "crop_size": [16, 16, 6],
    "batch_size": 2,
    "repeats": 1,
    "val_repeats": 1,
    "max_epochs": 1,
    "val_interval": 1,
    "picture_interval": 0,
    "ema_start": 0,
    "ema_interval": 1,
    "val_patients": HELD_OUT,
}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> Path:
    """Six hearts with lesions, one of them (``c``) without obstruction, in stacks stored in many ways; two normal."""
    root = tmp_path_factory.mktemp("hearts")
    for seed, name in enumerate(PATIENTS + "nm"):
        label = ring(core=name != "c", lesion=name not in "nm")
        affine, way = affine_of(list(TILTS.values())[seed % 3]), STORED_WAYS[5 * seed]
        group = root / ("Normal" if name in "nm" else "Pathological")
        save_nifti(group / "images" / f"{name}.nii.gz", *stored_as(signal(label, seed).astype(np.uint8), affine, way))
        save_nifti(group / "labels" / f"{name}.nii.gz", *stored_as(label, affine, way))
    return root


def train(dataset_dir: Path, output_dir: Path, *overlays: str, prepare=None, **overrides: Any) -> Path:
    names = [f"{name}.json" for name in ("train", *overlays)]
    execute(training_workflow(BUNDLE, names, dataset_dir, output_dir, **{**TRAINING, **overrides}), prepare)
    return output_dir


@pytest.fixture(scope="module")
def trained(dataset_dir, tmp_path_factory) -> Path:
    """The output folder of a training of three epochs."""
    return train(dataset_dir, tmp_path_factory.mktemp("trained"), "train_cpu", max_epochs=3, learning_rate=0.003)


def test_hearts_with_lesions_are_learnt_from_and_the_named_patients_held_out(dataset_dir, tmp_path):
    flow = training_workflow(BUNDLE, ["train.json"], dataset_dir, tmp_path, **TRAINING)
    flow.initialize()
    cases = {part: flow.parser.get_parsed_content(f"{part}#dataset#data") for part in ("train", "validate")}
    names = {part: sorted(case["case"] for case in found) for part, found in cases.items()}
    assert names == {"train": sorted(set(PATIENTS) - set(HELD_OUT)), "validate": HELD_OUT}


def test_network_sees_the_stack_with_its_slices_last_and_both_masks(dataset_dir, tmp_path):
    seen = []

    def prepare(trainer):
        trainer.network.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))

    train(dataset_dir, tmp_path, prepare=prepare)
    assert {tuple(x.shape) for x in seen} == {(2, 3, 16, 16, 6)}
    masks = torch.cat(seen)[:, 1:]
    assert set(masks.unique().tolist()) == {0, 1}
    assert (masks.sum(dim=1) <= 1).all()
    whole = int((ring() == MI).sum()), int((ring() == PMO).sum())
    sizes = {tuple(int(part.sum()) for part in sample) for sample in masks}
    assert sizes <= {whole, (sum(whole), 0)}, "crops hold every voxel of the lesions, and padding none"


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_trains_an_epoch_and_paints(paint, dataset_dir, tmp_path, variant):
    overlays = VARIANTS[variant]
    trainers, conditions = [], []

    def prepare(trainer):
        trainers.append(trainer)
        trainer.network.register_forward_pre_hook(
            lambda module, args, kwargs: conditions.append(kwargs["context"].clone()), with_kwargs=True
        )

    out = train(dataset_dir, tmp_path / "runs", *overlays, prepare=prepare, condition_dropout=0.0)
    separate = {"mi_only", "pmo_only"} & set(overlays)
    assert trainers[0].inferer.combiner.num_classes == (1 if separate else 2)
    with_histogram = "no_histogram" not in overlays
    assert bool(torch.cat(conditions).any()) == with_histogram
    assert np.isfinite(scalars(out / "tensorboard", "train_loss")).all()
    assert np.isfinite(scalars(out / "tensorboard", "val_loss")).all()

    files = save_case(tmp_path / "in")
    model = str(out / "checkpoints" / "model.pt")
    output = paint(tmp_path / "out", *overlays, **files, weights=model, **{"network_def#fine_channels": 4})
    classes = {"mi_only": (MI,), "pmo_only": (PMO,)}[separate.pop()] if separate else (MI, PMO)
    before, label = stored_of(files["image"]), stored_of(files["mask"])
    lesion = np.isin(label, classes)
    assert np.array_equal(output.stored[~lesion], before[~lesion])
    assert (output.stored[lesion] != before[lesion]).mean() > 0.5
    assert [spec["lesion_class"] for spec in output.specs] == [{MI: "mi", PMO: "pmo"}[value] for value in classes]
    assert all((spec["texture"] == "none") != with_histogram for spec in output.specs)


def test_two_epochs_and_one_more_equal_three_in_one_go(trained, dataset_dir, tmp_path):
    settings = {"learning_rate": 0.003}
    schedule = {"lr_scheduler#T_max": 3}  # the learning rate's course is that of the whole training
    train(dataset_dir, tmp_path, "train_cpu", max_epochs=2, **settings, **schedule)
    train(dataset_dir, tmp_path, "train_cpu", max_epochs=3, resume=True, **settings)
    for key in ("network", "ema_network", "optimizer", "epoch", "iteration"):
        assert same(latest(tmp_path)[key], latest(trained)[key]), key


@pytest.mark.integration
def test_two_processes_train_like_one_with_the_same_global_batch(dataset_dir, tmp_path):
    settings = {**TRAINING, "max_epochs": 2, "learning_rate": 0.001, "ema_decay": 0.5}
    train_in_two_processes(BUNDLE, dataset_dir, tmp_path, **{**settings, "batch_size": 1})
    train(dataset_dir, tmp_path / "alone", **settings)
    assert_trained_alike(tmp_path, tmp_path / "alone", steps=2 * 2)
    assert weights(tmp_path / "out_0").keys() == weights(tmp_path / "alone").keys()


# ----------------------------------------------------------------------------------------- evaluation


def evaluate(trained: Path, dataset_dir: Path, output_dir: Path, **overrides: Any) -> dict[str, Any]:
    settings = {key: TRAINING[key] for key in (*TINY, "network_def#fine_channels", "spatial_size", "val_patients")}
    settings |= {"weights": str(trained / "checkpoints" / "model.pt"), "num_inference_steps": 2, **overrides}
    execute(training_workflow(BUNDLE, ["train.json", "evaluate.json"], dataset_dir, output_dir, **settings))
    return json.loads((output_dir / "summary.json").read_text())


def test_evaluation_measures_each_class_and_the_contrasts_of_its_neighbours(trained, dataset_dir, tmp_path):
    summary = evaluate(trained, dataset_dir, tmp_path / "out")
    assert sorted(files_below(tmp_path / "out")) == ["lesions.png", "metrics.csv", "summary.json"]
    assert summary["lesions"] == len(HELD_OUT)
    assert {name: part["lesions"] for name, part in summary["classes"].items()} == {"mi": 2, "pmo": 2}
    for part in summary["classes"].values():
        assert part["fillings"]["painted"]["max_outside"] == 0
        assert part["fillings"]["mean"]["mean_difference"] == pytest.approx(0, abs=1e-5)
    # In these hearts the wall (40) is darker than the scar (200), and so is the core (100).
    assert {pair: (found["lesions"], found["real"]) for pair, found in summary["contrasts"].items()} == {
        "myocardium < mi": (2, 1.0),
        "pmo < mi": (2, 1.0),
    }
    assert all(0 <= found["painted"] <= 1 for found in summary["contrasts"].values())


def test_evaluation_of_the_training_part_counts_the_case_without_obstruction(trained, dataset_dir, tmp_path):
    summary = evaluate(trained, dataset_dir, tmp_path / "out", section="training", batch_size=2)
    assert {name: part["lesions"] for name, part in summary["classes"].items()} == {"mi": 4, "pmo": 3}
    assert summary["contrasts"]["pmo < mi"]["lesions"] == 3


def test_existing_evaluation_is_kept_unless_overwritten(trained, dataset_dir, tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(SupervisedEvaluator, "run", lambda self: pytest.fail("the evaluator was started"))
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        evaluate(trained, dataset_dir, tmp_path)
    assert "summary.json exists already: pass --overwrite true" in str(find_input_error(caught.value))
