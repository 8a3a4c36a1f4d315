"""What MONAI and its model zoo expect of the mask bundle."""

from __future__ import annotations

import pytest
import torch
from mask_runs import (
    BUNDLE,
    INFERENCE,
    labels_fixture,  # noqa: F401 (a fixture)
)
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out


@pytest.mark.parametrize(("kind", "name"), [("train", "train"), ("inference", "inference")])
def test_workflow_has_every_property_from_any_working_directory(labels, tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    overrides = {"dataset_dir": str(labels), "output_dir": str(tmp_path / "runs")} if kind == "train" else {}
    config = str(BUNDLE / "configs" / f"{name}.json")
    workflow = ConfigWorkflow(workflow_type=kind, config_file=config, logging_file=False, device="cpu", **overrides)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        config_file=str(INFERENCE),
        device="cpu",
        n=2,
        extra_forward_args={"timesteps": torch.tensor([7])},
    )


@pytest.mark.parametrize(("weights", "overlays"), [("model.pt", ()), ("model_emidec.pt", ("emidec",))])
def test_shipped_weights_are_tensors_that_fit_the_network(weights, overlays):
    path = BUNDLE / "models" / weights
    assert path.stat().st_size <= 25 * 2**20
    parser = ConfigParser()
    parser.read_config([str(INFERENCE), *(str(BUNDLE / "configs" / f"{name}.json") for name in overlays)])
    parser.get_parsed_content("network_def").load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize(
    "key",
    [
        "num_train_timesteps",
        "snr_shift",
        "num_classes",
        "class_labels",
        "context",
        "prediction_type",
        "spatial_size",
        "radius_voxels",
        "spacing_mm",
        "network_def",
    ],
)
@pytest.mark.parametrize("overlay", [(), ("emidec",)])
def test_training_and_inference_agree(key, overlay):
    contents = []
    for name, overlays in (("train", [f"{one}_train" for one in overlay]), ("inference", overlay)):
        parser = ConfigParser()
        parser.read_config([str(BUNDLE / "configs" / f"{file}.json") for file in (name, *overlays)])
        contents.append(parser[key])
    assert contents[0] == contents[1]
