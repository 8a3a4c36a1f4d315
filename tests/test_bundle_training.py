"""The training side of the bundle, run as its users run it, on eight small scans and a tiny network."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import (
    BUNDLES,
    assert_trained_alike,
    command,
    execute,
    files_below,
    latest,
    same,
    scalars,
    train_in_two_processes,
    training_workflow,
    weights,
)
from ignite.engine import Engine, Events
from matplotlib import pyplot as plt
from monai.bundle import ConfigWorkflow
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from custom_components.errors import InputError, find_input_error
from custom_components.handlers import AtomicCheckpoint
from custom_components.weights import load_weights

BUNDLE = BUNDLES / "lefusion_lidc"
CONFIGS = BUNDLE / "configs"

TINY_NETWORK = {
    "network_def#channels": [8, 8, 8],
    "network_def#norm_num_groups": 4,
    "network_def#fine_channels": 4,
    "network_def#num_head_channels": 4,
    "network_def#context_dim": 8,
    "spatial_size": [16, 16, 16],
}
TINY = {
    **TINY_NETWORK,
    "batch_size": 2,
    "repeats": 1,
    "val_repeats": 1,
    "max_epochs": 2,
    "val_interval": 1,
    "picture_interval": 0,
    "ema_start": 0,
    "ema_interval": 1,
}
NUM_CASES, NUM_VALIDATION = 8, 2
STEPS_PER_EPOCH = (NUM_CASES - NUM_VALIDATION) // TINY["batch_size"]


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> Path:
    """Scans of 20^3 voxels of 1 mm, int16 HU, each with one ball: a dark shell around a bright core.

    Every patient's ball has its own size and brightness; the shell and the core can be told from the mask alone, so
    that there is something to learn beyond the histogram.
    """
    root = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    entries = []
    for k in range(NUM_CASES):
        grid = np.indices((20, 20, 20)) - rng.uniform(9, 11, 3)[:, None, None, None]
        distance = np.sqrt((grid**2).sum(axis=0))
        radius = 3 + 0.3 * k
        scan = rng.normal(-850, 20, distance.shape)
        scan[distance <= radius] = -600 + 10 * k
        scan[distance <= 0.7 * radius] = 100 + 10 * k
        for kind, array in (("image", scan.astype(np.int16)), ("label", (distance <= radius).astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / f"{kind}_{k}.nii.gz")
        entries.append({"image": f"image_{k}.nii.gz", "label": f"label_{k}.nii.gz", "patient": f"patient_{k}"})
    (root / "datalist.json").write_text(json.dumps(entries))
    return root


def workflow(configs: list, dataset_dir: Path, output_dir: Path, **overrides) -> ConfigWorkflow:
    """The bundle's configs (names in its folder, or paths), merged, with the tiny settings and further overrides."""
    return training_workflow(BUNDLE, configs, dataset_dir, output_dir, **{**TINY, **overrides})


def train(dataset_dir: Path, output_dir: Path, *overlays, prepare=None, **overrides) -> Path:
    execute(workflow(["train.json", *overlays], dataset_dir, output_dir, **overrides), prepare)
    return output_dir


def validation_patients() -> list[str]:
    """Those whose names' SHA-256 come first, found without the code under test."""
    names = [f"patient_{k}" for k in range(NUM_CASES)]
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:NUM_VALIDATION]


@pytest.fixture(scope="module")
def trained(dataset_dir, tmp_path_factory) -> Path:
    """The output folder of a training that has learnt something."""
    settings = {"max_epochs": 6, "repeats": 4, "val_repeats": 4, "batch_size": 4}
    return train(dataset_dir, tmp_path_factory.mktemp("trained"), learning_rate=0.01, ema_decay=0.8, **settings)


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


def test_training_starts_from_earlier_weights(trained, dataset_dir, tmp_path):
    earlier = trained / "checkpoints" / "model.pt"
    out = train(dataset_dir, tmp_path, pretrained=str(earlier), learning_rate=0.0, max_epochs=1)
    torch.testing.assert_close(dict(weights(out)), dict(weights(trained, "model.pt")))  # averaging equals rounds


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


# Resuming


def test_interrupted_training_resumes_to_the_same_weights_bit_for_bit(dataset_dir, tmp_path):
    overlays = ["train_cpu.json"]  # its learning rate changes with every epoch
    settings = {"max_epochs": 4, "ema_start": 4, "ema_interval": 2, "learning_rate": 0.01}
    whole = train(dataset_dir, tmp_path / "whole", *overlays, **settings)

    def interrupt(trainer):
        def stop(engine):
            raise KeyboardInterrupt

        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2 * STEPS_PER_EPOCH + 2), stop)

    with pytest.raises(BaseException):  # noqa: B017 - MONAI may wrap it
        train(dataset_dir, tmp_path / "parts", *overlays, prepare=interrupt, **settings)
    assert latest(tmp_path / "parts")["epoch"] == 2
    torch.manual_seed(1234)
    parts = train(dataset_dir, tmp_path / "parts", *overlays, resume=True, **settings)
    for key in ("network", "ema_network", "optimizer", "lr_scheduler", "epoch", "iteration", "best"):
        assert same(latest(parts)[key], latest(whole)[key]), key
    for name in ("model.pt", "model_final.pt"):
        assert same(weights(parts, name), weights(whole, name)), name


def test_two_epochs_and_two_more_equal_four_in_one_go(dataset_dir, tmp_path):
    whole = train(dataset_dir, tmp_path / "whole", max_epochs=4, learning_rate=0.01)
    train(dataset_dir, tmp_path / "parts", max_epochs=2, learning_rate=0.01)
    halfway = latest(tmp_path / "parts")
    assert (halfway["epoch"], halfway["iteration"]) == (2, 2 * STEPS_PER_EPOCH)
    parts = train(dataset_dir, tmp_path / "parts", max_epochs=4, learning_rate=0.01, resume=True)
    for key in ("network", "ema_network", "optimizer", "epoch", "iteration", "best"):
        assert same(latest(parts)[key], latest(whole)[key]), key
    for tag in ("train_loss", "val_loss"):
        assert scalars(parts / "tensorboard", tag) == scalars(whole / "tensorboard", tag)


def test_overwrite_starts_anew(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path, max_epochs=2)
    train(dataset_dir, tmp_path, max_epochs=1, overwrite=True)
    assert latest(tmp_path)["epoch"] == 1


def test_mixed_precision_scaler_goes_on_where_it_stopped(dataset_dir, tmp_path, monkeypatch):
    class CountingScaler:
        def __init__(self):
            self.steps = 0

        def scale(self, loss):
            return loss

        def step(self, optimizer):
            optimizer.step()
            self.steps += 1

        def update(self):
            pass

        def state_dict(self):
            return {"steps": self.steps}

        def load_state_dict(self, state):
            self.steps = state["steps"]

    monkeypatch.setattr(torch.cuda.amp, "GradScaler", CountingScaler)
    train(dataset_dir, tmp_path, amp=True, max_epochs=1)
    assert latest(tmp_path)["scaler"] == {"steps": STEPS_PER_EPOCH}
    train(dataset_dir, tmp_path, amp=True, max_epochs=2, resume=True)
    assert latest(tmp_path)["scaler"] == {"steps": 2 * STEPS_PER_EPOCH}


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


# Checkpoints


def checkpointed_engine(folder: Path, resume: bool = False) -> Engine:
    """An engine of one iteration an epoch that writes the epoch's number into a layer's weights."""
    network = nn.Linear(2, 1)

    def step(engine, batch):
        network.weight.data.fill_(engine.state.epoch)

    engine = Engine(step)
    AtomicCheckpoint(folder, {"network": network}, network, resume=resume).attach(engine)
    return engine


def first_value(path: Path) -> float:
    return float(torch.load(path, weights_only=True)["weight"][0, 0])


def test_resuming_restores_every_global_random_generator(tmp_path):
    engine = checkpointed_engine(tmp_path)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    random.gauss(0, 1), np.random.randn(), torch.randn(1)
    engine.run([0], max_epochs=1)
    expected = (random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.randn(3).tolist())
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    drawn = []
    resumed = checkpointed_engine(tmp_path, resume=True)

    @resumed.on(Events.EPOCH_STARTED)
    def draw(_):
        drawn.append((random.random(), random.gauss(0, 1), np.random.randn(3).tolist(), torch.randn(3).tolist()))

    resumed.run([0], max_epochs=2)
    assert drawn == [expected]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
@pytest.mark.parametrize("torn", ["checkpoint_latest.pt", "model_final.pt"])
def test_kill_while_writing_leaves_every_file_whole(tmp_path, torn):
    engine = checkpointed_engine(tmp_path)
    engine.run([0], max_epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = torch.save

    def killed_save(state, path):
        save(state, path)
        if Path(path).name.endswith(torn):
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            torch.save = killed_save
            checkpointed_engine(tmp_path, resume=True).run([0], max_epochs=2)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / torn).read_bytes() == before[torn]
    epoch = torch.load(tmp_path / "checkpoint_latest.pt", weights_only=True)["epoch"]
    assert epoch == (1 if torn == "checkpoint_latest.pt" else 2)
    checkpointed_engine(tmp_path, resume=True).run([0], max_epochs=3)
    assert first_value(tmp_path / "model_final.pt") == 3


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
