"""Published checkpoints in the bundle: imported, painting the bundle's own way, and trained further."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, Output, command, infer, save_nifti, scalars, stored_of, weights
from lung_runs import BUNDLE, run_workflow
from lung_training import dataset_dir_fixture  # noqa: F401 (a fixture)
from published_format import save_published
from small_chest import balls, chest, save_case
from thick_stacks import STORED_WAYS, affine_of, ring, signal, stored_as

from custom_components.inferers import LesionInpaintingInferer
from custom_components.networks import FactorisedUNet
from lefusion_scripts.import_weights import import_weights

CONFIGS = BUNDLE / "configs"
SMALL = {
    "bundle_root": str(BUNDLE),
    "device": "cpu",
    "panel": False,
    "progress": False,
    "spatial_size": [16, 16, 10],
    "num_inference_steps": 3,
    "jump_length": 1,
    "jump_n_sample": 2,
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A published file's two products."""
    root = tmp_path_factory.mktemp("published")
    save_published(root / "lidc.pt", T=300)
    import_weights(str(root / "lidc.pt"), str(root / "imported"))
    return root / "imported"


def cluster_file(path: Path) -> Path:
    """Three histograms as published: a plain list, dark to bright."""
    bins = np.arange(16)
    clusters = [np.exp(-0.5 * ((bins - centre) / 2) ** 2) for centre in (3, 7, 12)]
    path.write_text(json.dumps([(cluster / cluster.sum()).tolist() for cluster in clusters]))
    return path


def overlaid(imported: Path) -> list[str]:
    """The documented list of configs."""
    return [str(CONFIGS / "inference.json"), str(CONFIGS / "published.json"), str(imported / "network.json")]


def test_imported_checkpoint_paints_with_a_published_cluster_file(imported, tmp_path, monkeypatch):
    networks, requests = [], []
    sample = LesionInpaintingInferer.sample

    def recorded(self, image, masks, network, condition=None, seeds=None):
        networks.append((self, network))
        requests.append(condition)
        return sample(self, image, masks, network, condition, seeds)

    monkeypatch.setattr(LesionInpaintingInferer, "sample", recorded)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    clusters = cluster_file(tmp_path / "clusters.json")
    run_workflow(
        overlaid(imported),
        **SMALL,
        **save_case(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        weights=str(imported / "model.pt"),
        texture_presets=str(clusters),
        texture_perturbation=0.0,
        texture="solid",
    )
    output = Output(tmp_path / "out")
    assert np.array_equal(output.stored[~balls()], chest()[~balls()])
    assert np.mean(output.stored[balls()] != chest()[balls()]) > 0.95
    inferer, network = networks[0]
    assert isinstance(network, FactorisedUNet)
    assert torch.equal(
        network.init_conv.weight, torch.load(imported / "model.pt", weights_only=True)["init_conv.weight"]
    )
    assert (inferer.context, inferer.blending, inferer.prediction_type) == ("diffused", "published", "epsilon")
    brightest = torch.tensor(json.loads(clusters.read_text())[2])
    torch.testing.assert_close(requests[0][0, 0], brightest)
    settings = json.loads((tmp_path / "out" / "case_lefusion.json").read_text())["settings"]
    assert settings["sampler"] == "DDPMSampler"
    assert settings["blending"] == "published"


@pytest.mark.parametrize("by_class", [False, True], ids=["32 numbers", "two lists of 16"])
def test_imported_checkpoint_of_two_classes_paints_both_with_a_published_cluster_file(tmp_path, monkeypatch, by_class):
    """The cardiac bundle; each class's clusters are named by their own rising means."""
    save_published(tmp_path / "emidec.pt", T=300, in_channels=2, out_channels=2, condition_dim=32)
    imported = tmp_path / "imported"
    import_weights(str(tmp_path / "emidec.pt"), str(imported))
    own = json.loads((imported / "network.json").read_text())["network_def"]
    assert (own["in_channels"], own["out_channels"], own["condition_dim"]) == (2, 2, 32)

    bins = np.arange(16)
    first, second = (
        [(bump / bump.sum()).tolist() for bump in (np.exp(-0.5 * ((bins - centre) / 2) ** 2) for centre in centres)]
        for centres in ((11, 5, 8), (3, 9, 6))
    )
    clusters = [[a, b] if by_class else a + b for a, b in zip(first, second, strict=True)]
    (tmp_path / "clusters.json").write_text(json.dumps(clusters))
    affine, way = affine_of(), STORED_WAYS[29]
    for name, volume in (("case", signal(ring()).astype(np.uint8)), ("label", ring())):
        save_nifti(tmp_path / "in" / f"{name}.nii.gz", *stored_as(volume, affine, way))

    calls, shapes = [], []
    sample = LesionInpaintingInferer.sample

    def recorded(self, image, masks, network, condition=None, seeds=None):
        calls.append((self, network, condition))
        network.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
        return sample(self, image, masks, network, condition, seeds)

    monkeypatch.setattr(LesionInpaintingInferer, "sample", recorded)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    configs = BUNDLES / "lefusion_emidec" / "configs"
    infer(
        [str(configs / "inference.json"), str(configs / "published.json"), str(imported / "network.json")],
        **{**SMALL, "bundle_root": str(BUNDLES / "lefusion_emidec"), "spatial_size": [24, 24, 6]},
        image=str(tmp_path / "in" / "case.nii.gz"),
        mask=str(tmp_path / "in" / "label.nii.gz"),
        output_dir=str(tmp_path / "out"),
        weights=str(imported / "model.pt"),
        texture_presets=str(tmp_path / "clusters.json"),
        texture_perturbation=0.0,
        texture={"mi": "control_3", "pmo": "control_1"},
    )
    output, before, label = (
        Output(tmp_path / "out"),
        stored_of(tmp_path / "in" / "case.nii.gz"),
        stored_of(tmp_path / "in" / "label.nii.gz"),
    )
    lesion = np.isin(label, (3, 4))
    assert np.array_equal(output.stored[~lesion], before[~lesion])
    for value in (3, 4):
        assert (output.stored[label == value] != before[label == value]).mean() > 0.8
    ((inferer, network, condition),) = calls
    assert isinstance(network, FactorisedUNet)
    assert torch.equal(
        network.init_conv.weight, torch.load(imported / "model.pt", weights_only=True)["init_conv.weight"]
    )
    assert set(shapes) == {(1, 2, 24, 24, 6)}, "both noised images and no mask: the background is diffused"
    assert (inferer.context, inferer.blending, inferer.prediction_type) == ("diffused", "published", "epsilon")
    torch.testing.assert_close(condition, torch.tensor([[first[0], second[0]]]))  # the brightest and the darkest
    assert [(spec["lesion_class"], spec["texture"]) for spec in output.specs] == [
        ("mi", "control_3"),
        ("pmo", "control_1"),
    ]
    settings = output.sidecar["settings"]
    assert (settings["sampler"], settings["context"], settings["blending"]) == ("DDPMSampler", "diffused", "published")
    assert settings["intensity_percentiles"] == [0, 100]


def test_published_settings_are_those_of_the_paper_and_of_the_published_file(imported):
    settings = json.loads((CONFIGS / "published.json").read_text())
    assert (settings["num_train_timesteps"], settings["num_inference_steps"]) == (300, 300)
    assert (settings["jump_length"], settings["jump_n_sample"]) == (5, 5)
    own = json.loads((imported / "network.json").read_text())
    assert (own["num_train_timesteps"], own["num_inference_steps"]) == (300, 300)
    network = dict(settings["network_def"])
    assert network.pop("_target_") == own["network_def"]["_target_"]
    with torch.device("meta"):
        parameters = sum(p.numel() for p in FactorisedUNet(**network).parameters())
    assert parameters / 1e6 == pytest.approx(35.8, abs=0.05)


@pytest.mark.integration
def test_published_network_trains_and_its_loss_falls(dataset_dir, tmp_path):
    """The documented command at a reduced size, in a process of its own."""
    process = command(
        "run",
        "training",
        cwd=tmp_path,
        config_file=[str(CONFIGS / "train.json"), str(CONFIGS / "published.json")],
        bundle_root=BUNDLE,
        dataset_dir=dataset_dir,
        output_dir=tmp_path / "out",
        picture_interval=0,
        spatial_size=[8, 8, 8],
        batch_size=2,
        repeats=4,
        val_repeats=1,
        val_interval=3,
        max_epochs=3,
        learning_rate=0.002,
        ema_start=0,
        ema_interval=1,
        ema_decay=0.8,
        **{"network_def#width": 8, "network_def#multipliers": [1, 2], "network_def#num_heads": 2},
    )
    assert process.returncode == 0, process.stderr
    losses = scalars(tmp_path / "out" / "tensorboard", "train_loss")
    assert len(losses) == 3 * 12
    assert np.mean(losses[-12:]) < 0.85 * np.mean(losses[:12])
    assert "downs.0.3.rotary_emb.freqs" in weights(tmp_path / "out")
