"""The methods to compare with, each an overlay that trains, paints, is evaluated and makes sets as LeFusion does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_facts import FACTS, read
from bundle_runs import (
    BUNDLES,
    TINY_NETWORK,
    Output,
    execute,
    infer,
    same_excepthook,  # noqa: F401 (a fixture)
    scalars,
    stored_of,
    training_workflow,
    weights,
)
from painting_checks import assert_painted_inside_alone_and_the_same_again
from synthesis_runs import Made, contents, make, start

from custom_components.errors import InputError
from custom_components.synthesis.records import read_manifest
from custom_components.synthesis.verification import verify_set

TRAINED = ["no_histogram", "repaint", "cond_diffusion"]
METHODS = [*TRAINED, "hand_crafted_texture"]
SIZES = {"lefusion_lidc": [16, 16, 16], "lefusion_emidec": [24, 24, 6]}
LESIONS = {"lefusion_lidc": (1,), "lefusion_emidec": (3, 4)}
TINY = {f"network_def#{key}": value for key, value in {**TINY_NETWORK, "fine_channels": 4}.items()}


@dataclass(frozen=True)
class Method:
    """An overlay of a bundle, trained where there is something to train."""

    bundle: str
    overlay: str
    data: Path
    folder: Path

    @property
    def overrides(self) -> dict[str, Any]:
        """For inference, evaluation and sets."""
        common = {"spatial_size": SIZES[self.bundle], "device": "cpu"}
        if self.overlay not in TRAINED:
            return common
        return {**common, **TINY, "num_inference_steps": 2, "weights": str(self.folder / "checkpoints" / "model.pt")}

    def files(self, *workflow: str) -> list[str]:
        return [str(BUNDLES / self.bundle / "configs" / f"{name}.json") for name in (*workflow, self.overlay)]

    def scan(self, role: str, case: str = "a") -> np.ndarray:
        return stored_of(self.data / role / f"{case}.nii.gz")

    def lesion(self, case: str = "a") -> np.ndarray:
        return np.isin(self.scan("labels", case), LESIONS[self.bundle])


@pytest.fixture(scope="module", params=[(b, o) for b in SIZES for o in METHODS], ids="-".join)
def method(request, tmp_path_factory) -> Method:
    bundle, overlay = request.param
    root = tmp_path_factory.mktemp(f"{bundle}-{overlay}")
    FACTS[bundle].save_data(root / "data")
    made = Method(bundle, overlay, root / "data", root / "run")
    if overlay in TRAINED:
        settings = {"batch_size": 2, "repeats": 4, "val_repeats": 4, "max_epochs": 2, "val_interval": 1}
        settings |= {"picture_interval": 2, "ema_start": 0, "ema_interval": 1, "ema_decay": 0.5, "learning_rate": 0.001}
        sizes = {"crop_size": SIZES[bundle]} if bundle == "lefusion_emidec" else {}
        configs = ["train.json", "train_cpu.json", f"{overlay}.json"]
        sizes["spatial_size"] = SIZES[bundle]
        root = BUNDLES / bundle
        execute(training_workflow(root, configs, made.data, made.folder, device="cpu", **TINY, **settings, **sizes))
    return made


def paint(method: Method, output_dir: Path, **overrides: Any) -> Output:
    files = {role: str(method.data / f"{role}s" / "a.nii.gz") for role in ("image", "label")}
    settings = {"bundle_root": str(BUNDLES / method.bundle), "panel": False, "progress": False}
    case = {"image": files["image"], "mask": files["label"], "output_dir": str(output_dir)}
    infer(method.files("inference"), **{**settings, **method.overrides, **case, **overrides})
    return Output(output_dir, "a")


def test_training_lowers_the_loss_and_leaves_pictures_and_weights(method):
    if method.overlay not in TRAINED:
        pytest.skip("nothing to train")
    losses = scalars(method.folder / "tensorboard", "val_loss")  # of the same noise at the same times in every epoch
    assert len(losses) == 2 and losses[1] < losses[0]
    assert np.isfinite(scalars(method.folder / "tensorboard", "train_loss")).all()
    assert (method.folder / "pictures" / "samples_epoch_0002.png").is_file()
    assert weights(method.folder, "model.pt").keys() == weights(method.folder).keys()


def test_lesions_are_painted_inside_the_mask_alone_and_the_same_again(method, tmp_path):
    before, lesion = method.scan("images"), method.lesion()
    first = assert_painted_inside_alone_and_the_same_again(partial(paint, method), tmp_path, before, lesion)
    sidecar = first.sidecar
    assert {spec["texture"] for spec in first.specs} == {"none"}
    assert (sidecar["weights"] is None) == (method.overlay not in TRAINED)
    kind = "compositeWithTrainedAlgorithmicMedia" if method.overlay in TRAINED else "compositeSynthetic"
    assert sidecar["digitalSourceType"] == kind


def test_evaluation_measures_what_the_method_itself_made(method, tmp_path):
    overrides = {
        "dataset_dir": str(method.data),
        "output_dir": str(tmp_path),
        "bundle_root": str(BUNDLES / method.bundle),
    }
    sizes = {"crop_size": SIZES[method.bundle]} if method.bundle == "lefusion_emidec" else {}
    configs = method.files("train", "evaluate")
    infer(configs, **{**overrides, **method.overrides, **sizes})
    classes = json.loads((tmp_path / "summary.json").read_text())["classes"]
    assert set(classes) == ({"mi", "pmo"} if sizes else {"lesion"})
    for part in classes.values():
        painted = part["fillings"]["painted"]
        assert all(np.isfinite(painted[measure]) for measure in ("psnr_crop", "psnr_lesion", "ssim_crop"))
        assert painted["distance_to_request"] is None, "no histogram is asked for"
        assert (painted["max_outside"] > 0.01) == (method.overlay == "cond_diffusion")


def test_set_is_made_and_verified(method, tmp_path):
    given = {"bundle": method.bundle, "config": method.overlay, "set": "P'", "group_size": 2}
    assert make(method.data, tmp_path / "set", method.overrides, panel=False, **given) == []
    assert len(read_manifest(tmp_path / "set")) == len(list((method.data / "images").iterdir()))
    for case in "ab":
        image, lesion = Made(tmp_path / "set", case).stored("images"), method.lesion(case)
        assert np.array_equal(image[~lesion], method.scan("images", case)[~lesion])
        assert (image[lesion] != method.scan("images", case)[lesion]).mean() > 0.8
    assert verify_set(tmp_path / "set", progress=False) == []


# ------------------------------------------------------------------------------------------- overlays


@pytest.mark.parametrize("bundle", SIZES)
def test_networks_see_what_the_paper_says(bundle):
    """RePaint: the noised image alone; Cond-Diffusion: that, every class's mask and the masked background."""
    classes = len(LESIONS[bundle])
    for overlay, channels in (("repaint", 1), ("cond_diffusion", 2 + classes)):
        config = read(bundle, "train", overlay)
        found = config["network_def"]["in_channels"]
        assert channels == (2 + classes if isinstance(found, str) else found)
        assert config["network_def"]["out_channels"] == 1
        assert config["loss"]["_target_"].endswith("GlobalDiffusionLoss")
        assert config["histogram_control"] is False
        assert read(bundle, "inference", overlay)["texture_guidance"] == 0


@pytest.mark.parametrize("bundle", SIZES)
@pytest.mark.parametrize("overlay", METHODS)
def test_order_beside_the_cpu_overlay_does_not_matter(bundle, overlay):
    for workflow in (["train"], ["train", "evaluate"], ["inference"]):
        assert read(bundle, *workflow, "train_cpu", overlay) == read(bundle, *workflow, overlay, "train_cpu")


def test_bundle_s_own_method_is_as_it_was():
    for bundle in SIZES:
        config = read(bundle, "inference")
        assert (config["paste"], config["background"], config["histogram_control"]) == ("lesion", "scan", True)


# ------------------------------------------------------------------------------------- in processes of their own


@pytest.mark.integration
def test_training_without_a_network_is_refused_in_a_sentence():
    process = start(["run", "training", "--config", "[train_cpu,hand_crafted_texture]"])
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.strip().splitlines()[-1].startswith("error: hand-crafted texture has no network to train")


def test_weights_are_refused_where_there_is_no_network(tmp_path):
    FACTS["lefusion_lidc"].save_data(tmp_path / "data")
    overrides = {"spatial_size": [16, 16, 16], "weights": str(BUNDLES / "lefusion_lidc" / "models" / "model.pt")}
    with pytest.raises(InputError, match="has no network: it takes no weights"):
        make(tmp_path / "data", tmp_path / "set", overrides, config="hand_crafted_texture", set="P'")


def test_set_is_the_same_bytes_again(tmp_path):
    FACTS["lefusion_lidc"].save_data(tmp_path / "data")
    method = Method("lefusion_lidc", "hand_crafted_texture", tmp_path / "data", tmp_path)
    for name in "xy":
        make(method.data, tmp_path / name, method.overrides, config="hand_crafted_texture", set="P'", panel=False)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")
