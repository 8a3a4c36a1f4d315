"""What a training has learnt: its curves and weights, their validation and evaluation, and their use."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import command, execute, files_below, latest, same, scalars, weights
from lung_training import (
    BUNDLE,
    CONFIGS,
    NUM_CASES,
    NUM_VALIDATION,
    TINY_NETWORK,
    dataset_dir_fixture,  # noqa: F401 (a fixture)
    train,
    validation_patients,
    workflow,
)
from matplotlib import pyplot as plt
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from custom_components.errors import InputError, find_input_error
from custom_components.weights import load_weights


@pytest.fixture(scope="module")
def trained(dataset_dir, tmp_path_factory) -> Path:
    """The output folder of a training that has learnt something."""
    settings = {"max_epochs": 6, "repeats": 4, "val_repeats": 4, "batch_size": 4}
    return train(dataset_dir, tmp_path_factory.mktemp("trained"), learning_rate=0.01, ema_decay=0.8, **settings)


# Curves and weights


def test_training_and_validation_loss_fall_on_easy_data(trained):
    validation = scalars(trained / "tensorboard", "val_loss")
    assert len(validation) == 6
    assert validation[-1] < 0.9 * validation[0]
    training = scalars(trained / "tensorboard", "train_loss")
    assert len(training) == 36
    assert np.mean(training[24:]) < 0.85 * np.mean(training[:12])


def test_model_is_the_best_epoch_s_and_model_final_the_last_epoch_s_average(trained):
    curve = scalars(trained / "tensorboard", "val_loss")
    assert latest(trained)["best"] == pytest.approx(min(curve), rel=1e-6)
    assert same(weights(trained), latest(trained)["ema_network"])
    assert same(weights(trained, "model.pt"), weights(trained)) == (min(curve) == curve[-1])
    assert not same(weights(trained), latest(trained)["network"])


def test_training_starts_from_earlier_weights(trained, dataset_dir, tmp_path):
    earlier = trained / "checkpoints" / "model.pt"
    out = train(dataset_dir, tmp_path, pretrained=str(earlier), learning_rate=0.0, max_epochs=1)
    torch.testing.assert_close(dict(weights(out)), dict(weights(trained, "model.pt")))  # averaging equals rounds


# Resuming


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "checkpoint_latest.pt exists: pass --resume true"),
        ({"output_dir": "fresh", "resume": True}, "nothing to resume"),
        ({"output_dir": "fresh", "dataset_dir": "nowhere"}, "dataset_dir .*nowhere does not exist"),
    ],
    ids=["existing checkpoint", "nothing to resume", "no data"],
)
def test_unusable_request_is_refused_before_any_step_and_writes_nothing(
    trained, dataset_dir, tmp_path, monkeypatch, overrides, message
):
    def forbidden(self):
        pytest.fail("the trainer was started")

    monkeypatch.setattr(SupervisedTrainer, "run", forbidden)
    paths = {key: tmp_path / overrides[key] for key in ("output_dir", "dataset_dir") if key in overrides}
    paths = {"output_dir": trained, "dataset_dir": dataset_dir, **paths}
    before = files_below(paths["output_dir"])
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        execute(workflow(["train.json"], **paths, resume=overrides.get("resume", False)))
    error = find_input_error(caught.value)
    assert error is not None
    assert "\n" not in str(error)
    with pytest.raises(InputError, match=message):
        raise error
    assert files_below(paths["output_dir"]) == before


# Validation


def test_validation_loss_is_the_same_every_time(trained, dataset_dir, tmp_path):
    def loss(global_seed: int, **overrides) -> list[float]:
        flow = workflow(["train.json"], dataset_dir, tmp_path, val_repeats=3, **overrides)
        flow.initialize()
        evaluator: SupervisedEvaluator = flow.parser.get_parsed_content("validate#evaluator")
        load_weights(evaluator.network, trained / "checkpoints" / "model.pt")
        random.seed(global_seed), np.random.seed(global_seed), torch.manual_seed(global_seed)
        values = []
        for epoch in (1, 2):
            evaluator.run(epoch)
            values.append(evaluator.state.metrics["val_loss"])
        return values

    first = loss(0)
    assert first[0] == first[1]
    assert loss(1) == first
    assert loss(2, batch_size=3)[0] == pytest.approx(first[0], rel=1e-5)
    assert loss(0, seed=1)[0] != pytest.approx(first[0], rel=1e-3)


# Evaluation
EVALUATION = {**TINY_NETWORK, "batch_size": 1, "num_inference_steps": 2}


def evaluate(trained: Path, dataset_dir: Path, output_dir: Path, **overrides) -> list[dict[str, str]]:
    settings = {**EVALUATION, "weights": str(trained / "checkpoints" / "model.pt"), **overrides}
    execute(workflow(["train.json", "evaluate.json"], dataset_dir, output_dir, **settings))
    return rows_of(output_dir)


def rows_of(output_dir: Path) -> list[dict[str, str]]:
    with open(output_dir / "metrics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def check_evaluation(output_dir: Path, dataset_dir: Path) -> None:
    """Three fillings of every validation lesion, nothing painted outside, means that are those of the table."""
    assert sorted(files_below(output_dir)) == ["lesions.png", "metrics.csv", "summary.json"]
    rows = rows_of(output_dir)
    assert [row["filling"] for row in rows] == ["painted", "surroundings", "mean"] * NUM_VALIDATION
    cases = {case["patient"]: case["label"] for case in json.loads((dataset_dir / "datalist.json").read_text())}
    sizes = {int(nib.load(dataset_dir / cases[name]).get_fdata().sum()) for name in validation_patients()}
    assert len(sizes) == NUM_VALIDATION
    assert {int(row["voxels"]) for row in rows} == sizes
    assert {float(row["max_outside"]) for row in rows} == {0.0}
    summary = json.loads((output_dir / "summary.json").read_text())
    assert summary["lesions"] == NUM_VALIDATION
    for name in ("psnr_crop", "ssim_lesion", "distance_to_request"):
        painted = [float(row[name]) for row in rows if row["filling"] == "painted"]
        assert summary["classes"]["lesion"]["fillings"]["painted"][name] == pytest.approx(np.mean(painted))
    picture = plt.imread(output_dir / "lesions.png")
    assert picture.std() > 0.05


def test_evaluation_measures_every_validation_lesion_and_leaves_the_outside_alone(trained, dataset_dir, tmp_path):
    evaluate(trained, dataset_dir, tmp_path / "results")
    check_evaluation(tmp_path / "results", dataset_dir)


@pytest.mark.integration
def test_evaluation_command_writes_table_summary_and_picture(trained, dataset_dir, tmp_path):
    process = command(
        "run",
        "evaluating",
        cwd=tmp_path,
        config_file=f"['{CONFIGS}/train.json','{CONFIGS}/evaluate.json']",
        bundle_root=BUNDLE,
        dataset_dir=dataset_dir,
        output_dir=tmp_path / "results",
        weights=trained / "checkpoints" / "model.pt",
        **EVALUATION,
    )
    assert process.returncode == 0, process.stderr
    check_evaluation(tmp_path / "results", dataset_dir)
    assert f"{NUM_VALIDATION} lesions" in process.stdout


def test_evaluation_repeats_in_any_batch_and_follows_seed_and_section(trained, dataset_dir, tmp_path):
    rows = evaluate(trained, dataset_dir, tmp_path / "first")
    torch.manual_seed(99)
    for first, again in zip(rows, evaluate(trained, dataset_dir, tmp_path / "again", batch_size=2), strict=True):
        for name in rows[0].keys() - {"class", "filling"}:
            assert float(again[name]) == pytest.approx(float(first[name]), rel=1e-4, abs=1e-4), name
    other = evaluate(trained, dataset_dir, tmp_path / "other", seed=1)
    assert other[0]["psnr_lesion"] != rows[0]["psnr_lesion"]
    assert other[1] == rows[1]  # the trivial fillings have nothing random
    section = evaluate(trained, dataset_dir, tmp_path / "section", section="training")
    assert len(section) == 3 * (NUM_CASES - NUM_VALIDATION)


def test_existing_evaluation_is_kept_unless_overwritten(trained, dataset_dir, tmp_path, monkeypatch):
    evaluate(trained, dataset_dir, tmp_path)
    before = files_below(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SupervisedEvaluator, "run", lambda self: pytest.fail("the evaluator was started"))
        with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
            evaluate(trained, dataset_dir, tmp_path, seed=1)
    assert "summary.json exists already: pass --overwrite true" in str(find_input_error(caught.value))
    assert files_below(tmp_path) == before
    evaluate(trained, dataset_dir, tmp_path, seed=1, overwrite=True)
    assert files_below(tmp_path).keys() == before.keys()
    assert files_below(tmp_path) != before


def test_evaluation_names_the_first_weight_that_does_not_fit(trained, dataset_dir, tmp_path):
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        evaluate(trained, dataset_dir, tmp_path / "results", **{"network_def#context_dim": 16})
    error = str(find_input_error(caught.value))
    assert "'bin_embedding' has shape (16, 8), the network needs (16, 16)" in error
    assert not (tmp_path / "results").exists()


# Handing over to inference


@pytest.mark.parametrize("name", ["model.pt", "model_final.pt"])
def test_inference_loads_trained_weights_strictly(trained, name):
    flow = ConfigWorkflow(
        config_file=str(CONFIGS / "inference.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(BUNDLE),
        weights=str(trained / "checkpoints" / name),
        **TINY_NETWORK,
    )
    flow.initialize()
    network = flow.parser.get_parsed_content("network")
    assert not network.training
    assert same(dict(network.state_dict()), weights(trained, name))
