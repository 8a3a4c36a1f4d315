"""Cond-Diffusion (L) in both bundles: two trainings, then painting, evaluation and sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_facts import FACTS, read
from bundle_runs import (
    BUNDLES,
    Output,
    causes,
    command,
    execute,
    files_below,
    infer,
    latest,
    same,
    same_excepthook,  # noqa: F401 (a fixture)
    scalars,
    stored_of,
    training_workflow,
    weights,
)
from painting_checks import assert_painted_inside_alone_and_the_same_again
from synthesis_runs import Made, make

from custom_components.errors import InputError
from custom_components.synthesis.verification import verify_set

SIZES = {"lefusion_lidc": [16, 16, 16], "lefusion_emidec": [24, 24, 6]}
EPOCHS = {"lefusion_lidc": 3, "lefusion_emidec": 6}  # until the autoencoder knows more than one gray
LESIONS = {"lefusion_lidc": (1,), "lefusion_emidec": (3, 4)}
AUTOENCODER = {
    "autoencoder_def#channels": [8, 8],
    "autoencoder_def#num_res_layers": 1,
    "autoencoder_def#num_embeddings": 64,
    "autoencoder_def#embedding_dim": 4,
}
DISCRIMINATOR = {"discriminator_def#channels": 4, "adversarial_start": 50}
UNET = {
    "network_def#channels": [8, 8],
    "network_def#num_res_blocks": 1,
    "network_def#norm_num_groups": 4,
    "network_def#num_head_channels": 4,
}
CONSTANT_RATE = {"learning_rate": 0.003, "lr_scheduler#eta_min": 0.003}
QUICK = {"batch_size": 2, "val_repeats": 1, "val_interval": 1, "ema_start": 0, "ema_interval": 1, "device": "cpu"}


@dataclass(frozen=True)
class Trained:
    """Both stages of a bundle, trained on a small data set."""

    bundle: str
    data: Path
    autoencoder: Path
    diffusion: Path

    @property
    def sizes(self) -> dict[str, Any]:
        size = {"spatial_size": SIZES[self.bundle]}
        return size if self.bundle == "lefusion_lidc" else {**size, "crop_size": SIZES[self.bundle]}

    @property
    def overrides(self) -> dict[str, Any]:
        """For inference and sets."""
        model = str(self.diffusion / "checkpoints" / "model.pt")
        size = {"spatial_size": SIZES[self.bundle], "num_inference_steps": 3, "device": "cpu"}
        return {**AUTOENCODER, **UNET, **size, "weights": model}

    def files(self, *workflow: str) -> list[str]:
        names = (*workflow, "latent_diffusion")
        return [str(BUNDLES / self.bundle / "configs" / f"{name}.json") for name in names]

    def scan(self, role: str, case: str = "a") -> np.ndarray:
        return stored_of(self.data / role / f"{case}.nii.gz")

    def lesion(self, case: str = "a") -> np.ndarray:
        return np.isin(self.scan("labels", case), LESIONS[self.bundle])

    def train(self, overlay: str, output_dir: Path, **overrides: Any) -> Path:
        own = DISCRIMINATOR if overlay == "autoencoder" else UNET
        settings = {**AUTOENCODER, **own, **QUICK, **self.sizes, **CONSTANT_RATE, **overrides}
        configs = ["train.json", "train_cpu.json", f"{overlay}.json"]
        execute(training_workflow(BUNDLES / self.bundle, configs, self.data, output_dir, **settings))
        return output_dir


@pytest.fixture(scope="module", params=sorted(SIZES))
def trained(request, tmp_path_factory) -> Trained:
    root = tmp_path_factory.mktemp(request.param)
    FACTS[request.param].save_data(root / "data")
    made = Trained(request.param, root / "data", root / "autoencoder", root / "diffusion")
    made.train("autoencoder", made.autoencoder, repeats=4, max_epochs=EPOCHS[made.bundle], picture_interval=3)
    found = str(made.autoencoder / "checkpoints" / "model.pt")
    made.train(
        "latent_diffusion", made.diffusion, repeats=4, max_epochs=3, picture_interval=3, autoencoder_weights=found
    )
    return made


def paint(trained: Trained, output_dir: Path, **overrides: Any) -> Output:
    case = {"image": str(trained.data / "images" / "a.nii.gz"), "mask": str(trained.data / "labels" / "a.nii.gz")}
    settings = {"bundle_root": str(BUNDLES / trained.bundle), "panel": False, "progress": False}
    infer(
        trained.files("inference"),
        **{**settings, **trained.overrides, **case, "output_dir": str(output_dir), **overrides},
    )
    return Output(output_dir, "a")


# ----------------------------------------------------------------------------------------- training


def test_autoencoder_learns_to_reconstruct_and_tells_its_error_and_psnr(trained):
    board = trained.autoencoder / "tensorboard"
    errors, psnr = scalars(board, "val_loss"), scalars(board, "val_psnr_db")
    assert len(errors) == len(psnr) == EPOCHS[trained.bundle]
    assert errors[-1] < 0.9 * errors[0]
    assert psnr[-1] > psnr[0]
    assert (trained.autoencoder / "pictures" / "samples_epoch_0003.png").is_file()


def test_diffusion_lowers_its_loss_and_leaves_a_picture(trained):
    losses = scalars(trained.diffusion / "tensorboard", "val_loss")  # of the same noise at the same times
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert (trained.diffusion / "pictures" / "samples_epoch_0003.png").is_file()


def test_weights_are_tensors_and_those_of_the_diffusion_hold_the_autoencoder(trained):
    first, whole = weights(trained.autoencoder, "model.pt"), weights(trained.diffusion, "model.pt")
    for state in (first, whole):
        assert {type(value) for value in state.values()} == {torch.Tensor}
    own = {name: value for name, value in whole.items() if name.startswith("autoencoder.")}
    assert own.keys() == {f"autoencoder.{name}" for name in first}
    for name, value in first.items():
        torch.testing.assert_close(own[f"autoencoder.{name}"], value)


def test_autoencoder_of_the_last_epoch_is_the_one_to_use(trained):
    """The discriminator makes it better to look at, not nearer in the mean error that validation measures."""
    assert same(weights(trained.autoencoder, "model.pt"), weights(trained.autoencoder, "model_final.pt"))


def test_discriminator_rests_until_it_joins(trained, tmp_path):
    resting = trained.train("autoencoder", tmp_path / "rest", repeats=1, max_epochs=1, picture_interval=0)
    joined = trained.train(
        "autoencoder", tmp_path / "join", repeats=1, max_epochs=1, picture_interval=0, adversarial_start=0
    )
    biased = [latest(folder)["discriminator"]["final_conv.conv.bias"] for folder in (resting, joined)]
    assert float(biased[0].abs().max()) == 0
    assert float(biased[1].abs().max()) > 0


def test_interrupted_trainings_go_on_to_the_same_weights(trained, tmp_path):
    found = str(trained.autoencoder / "checkpoints" / "model.pt")
    for overlay, own in (
        ("autoencoder", {"adversarial_start": 2}),
        ("latent_diffusion", {"autoencoder_weights": found}),
    ):
        settings = {"repeats": 1, "picture_interval": 0, "lr_scheduler#T_max": 2, **own}
        whole = trained.train(overlay, tmp_path / overlay / "whole", max_epochs=2, **settings)
        parts = trained.train(overlay, tmp_path / overlay / "parts", max_epochs=1, **settings)
        trained.train(overlay, parts, max_epochs=2, resume=True, **settings)
        for key in latest(whole).keys() - {"random"}:
            assert same(latest(parts)[key], latest(whole)[key]), (overlay, key)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "no trained autoencoder: pass --autoencoder_weights"),
        ("nowhere.pt", r"nowhere\.pt does not exist"),
        ("diffusion", "lacks the network's key"),
    ],
)
def test_training_without_a_fitting_autoencoder_is_refused_in_one_sentence(trained, tmp_path, given, message):
    if given == "diffusion":
        given = str(trained.diffusion / "checkpoints" / "model.pt")
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        trained.train("latent_diffusion", tmp_path, repeats=1, max_epochs=1, autoencoder_weights=given)
    error = next(error for error in causes(caught.value) if isinstance(error, InputError))
    with pytest.raises(InputError, match=message):
        raise error
    assert not (tmp_path / "checkpoints").exists()


# ----------------------------------------------------------------------------------------- painting


def test_lesions_are_painted_inside_the_mask_alone_and_the_same_again(trained, tmp_path):
    before, lesion = trained.scan("images"), trained.lesion()
    assert_painted_inside_alone_and_the_same_again(partial(paint, trained), tmp_path, before, lesion)


def test_crop_pasted_whole_has_the_decoder_s_background(trained, tmp_path):
    painted = paint(trained, tmp_path, paste="crop")
    before, lesion = trained.scan("images"), trained.lesion()
    assert (painted.stored[~lesion] != before[~lesion]).any()
    assert painted.sidecar["background"] == "generated"
    assert painted.sidecar["max_abs_difference_outside_mask"] > 0


def test_evaluation_measures_the_decoder_s_crop(trained, tmp_path):
    overrides = {"dataset_dir": str(trained.data), "output_dir": str(tmp_path)}
    root = {"bundle_root": str(BUNDLES / trained.bundle)}
    infer(trained.files("train", "evaluate"), **{**overrides, **root, **trained.overrides, **trained.sizes})
    classes = json.loads((tmp_path / "summary.json").read_text())["classes"]
    assert set(classes) == ({"lesion"} if trained.bundle == "lefusion_lidc" else {"mi", "pmo"})
    for part in classes.values():
        painted = part["fillings"]["painted"]
        assert all(np.isfinite(painted[measure]) for measure in ("psnr_crop", "psnr_lesion", "ssim_crop"))
        assert painted["max_outside"] > 0.01


def test_set_is_made_and_verified(trained, tmp_path):
    given = {"bundle": trained.bundle, "config": "latent_diffusion", "set": "P'"}
    assert make(trained.data, tmp_path / "set", {**trained.overrides, "panel": False}, **given) == []
    image, lesion = Made(tmp_path / "set", "a").stored("images"), trained.lesion()
    assert np.array_equal(image[~lesion], trained.scan("images")[~lesion])
    assert (image[lesion] != trained.scan("images")[lesion]).mean() > 0.8
    assert verify_set(tmp_path / "set", progress=False) == []


# ----------------------------------------------------------------------------------------- commands


@pytest.mark.integration
def test_both_stages_and_painting_run_as_documented_commands(trained, tmp_path):
    if trained.bundle != "lefusion_lidc":
        pytest.skip("one bundle is enough for the commands")
    (tmp_path / "cwd").mkdir()
    lefusion = {"launcher": ("-m", "lefusion_scripts.cli"), "cwd": tmp_path / "cwd"}
    common = {"dataset_dir": trained.data, **AUTOENCODER, **QUICK, **trained.sizes, "max_epochs": 1, "repeats": 1}

    def run(*words: Any, **overrides: Any) -> None:
        process = command(*words, **lefusion, **overrides)
        assert process.returncode == 0, process.stderr[-3000:]

    first, second = tmp_path / "autoencoder", tmp_path / "diffusion"
    run("run", "training", **common, **DISCRIMINATOR, config="[train_cpu,autoencoder]", output_dir=first)
    found = {"autoencoder_weights": first / "checkpoints" / "model.pt"}
    run("run", "training", **common, **UNET, **found, config="[train_cpu,latent_diffusion]", output_dir=second)
    files = [trained.data / role / "a.nii.gz" for role in ("images", "labels")]
    model = {**trained.overrides, "weights": second / "checkpoints" / "model.pt", "config": "latent_diffusion"}
    run("generate", *files, tmp_path / "out", **model)
    assert (tmp_path / "out" / "a_lefusion.nii.gz").is_file()
    assert files_below(tmp_path / "cwd") == {}


@pytest.mark.parametrize("overlay", ["autoencoder", "latent_diffusion"])
@pytest.mark.parametrize("bundle", sorted(SIZES))
def test_order_beside_the_cpu_overlays_does_not_matter(bundle, overlay):
    small = f"{overlay}_cpu"
    assert read(bundle, "train", "train_cpu", overlay, small) == read(bundle, "train", overlay, small, "train_cpu")
    assert read(bundle, "train", overlay, small)["autoencoder_def"]["channels"] == [32, 64]


@pytest.mark.parametrize("bundle", sorted(SIZES))
def test_both_stages_have_the_same_autoencoder(bundle):
    for small in ((), ("_cpu",)):
        stages = [
            read(bundle, "train", name, *(name + end for end in small)) for name in ("autoencoder", "latent_diffusion")
        ]
        assert stages[0]["autoencoder_def"] == stages[1]["autoencoder_def"]
