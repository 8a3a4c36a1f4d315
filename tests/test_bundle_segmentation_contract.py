"""What MONAI, its model zoo and its users expect of the segmentation bundle, as it is shipped."""

from __future__ import annotations

import json
import shutil
from importlib import import_module

import pytest
import torch
from bundle_facts import MONAI_KEYS, WORKFLOWS, targets
from bundle_runs import BUNDLES, LONE_RUN, command, options, read_configs
from monai.bundle import ConfigWorkflow, verify_net_in_out
from monai.bundle.config_item import ComponentLocator
from segmentation_runs import BUNDLE, save_nodules

from lefusion_scripts.zoo_contents import Member, check_contents

CONFIGS = BUNDLE / "configs"
OVERLAYS = {
    "train_cpu": (["train"], ["train", "evaluate"]),
    "adamw": (["train"],),
    "multi_gpu_train": (["train"],),
    "swinunetr": (["train"], ["train", "evaluate"], ["inference"]),
    "heart": (["train"], ["train", "evaluate"], ["inference"]),
}
# What overlays change of some workflows only; the others have no such key.
OF_TRAINING = {
    "learning_rate", "optimizer", "lr_scheduler", "rotation_radians", "scaling", "low_resolution_prob", "val_fraction",
    "val_patients",
}  # fmt: skip
OF_EVALUATION = {"nsd_tolerance_mm"}
OVERLAID = [[*base, overlay] for overlay, bases in OVERLAYS.items() for base in bases]


def test_every_bundle_has_a_contract():
    """Those that paint have theirs in test_bundle_contract.py, the mask bundle in test_bundle_diffmask_contract.py."""
    own = {path.parents[1].name for path in BUNDLES.glob("*/configs/train.json")}
    assert own == {"lefusion_lidc", "lefusion_emidec", "diffmask", "lesion_segmentation"}


def test_every_config_is_under_contract():
    assert {path.stem for path in CONFIGS.glob("*.json")} == {"train", "inference", "evaluate", "metadata", *OVERLAYS}


@pytest.mark.parametrize("kind", ["train", "inference"])
def test_workflow_has_every_property(kind, tmp_path):
    data = {"dataset_dir": str(save_nodules(tmp_path / "data"))} if kind == "train" else {}
    flow = ConfigWorkflow(
        workflow_type=kind,
        config_file=str(CONFIGS / f"{kind}.json"),
        logging_file=False,
        bundle_root=str(BUNDLE),
        output_dir=str(tmp_path / "out"),
        device="cpu",
        **data,
    )
    flow.initialize()
    assert flow.check_properties() == []


def test_zoo_finds_nothing_wrong():
    files = (path for path in BUNDLE.rglob("*") if path.is_file() and "runs" not in path.parts)
    members = {path.relative_to(BUNDLE).as_posix(): Member(path.stat().st_size, path.read_bytes) for path in files}
    components = (BUNDLE / "custom_components").resolve()
    members |= {
        f"custom_components/{path.relative_to(components).as_posix()}": Member(path.stat().st_size, path.read_bytes)
        for path in components.rglob("*.py")
    }
    assert check_contents(members, BUNDLE.name) == []


def test_network_takes_and_gives_what_the_metadata_says():
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device="cpu",
        n=2,
    )


def test_weights_fit_the_network_of_inference_and_of_the_small_training():
    state = torch.load(BUNDLE / "models" / "model.pt", map_location="cpu", weights_only=True)
    for configs in (["inference"], ["train", "train_cpu"]):
        read_configs(BUNDLE, *configs).get_parsed_content("network_def").load_state_dict(state)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_everything_that_a_config_names_exists(path):
    monai = ComponentLocator()
    for target in targets(json.loads(path.read_text())):
        module, _, attribute = target.rpartition(".")
        assert hasattr(import_module(module), attribute) if module else monai.get_component_module_name(target), target


@pytest.mark.parametrize("configs", OVERLAID, ids="+".join)
def test_overlay_only_changes_what_is_there(configs):
    base = set(read_configs(BUNDLE, *configs[:-1]).get())
    overlay = {key.split("#")[0] for key in json.loads((CONFIGS / f"{configs[-1]}.json").read_text())}
    elsewhere = (set() if "train" in configs else OF_TRAINING) | (set() if "evaluate" in configs else OF_EVALUATION)
    assert overlay - base - MONAI_KEYS <= elsewhere
    assert not elsewhere & base


@pytest.mark.parametrize("configs", WORKFLOWS, ids="+".join)
def test_config_has_no_dead_keys(configs):
    text = json.dumps({key: value for key, value in read_configs(BUNDLE, *configs).get().items() if key != "_meta_"})
    own = {key.split("#")[0] for key in json.loads((CONFIGS / f"{configs[-1]}.json").read_text())}
    unused = {key for key in own if f"@{key}" not in text and f"%{key}" not in text}
    assert unused - MONAI_KEYS <= {"in_plane"}  # what the overlays train_cpu and swinunetr ask for


def test_training_and_inference_read_scans_alike():
    training, inference = (read_configs(BUNDLE, name).get() for name in ("train", "inference"))
    for key in (
        "spacing_mm",
        "hu_window",
        "lesion_classes",
        "in_plane",
        "orient",
        "normalise",
        "network_def",
        "labels",
    ):
        assert training[key] == inference[key], key


@pytest.mark.integration
def test_lone_copy_segments_its_sample_from_anywhere_without_the_repository(tmp_path):
    """As downloaded and unpacked: links followed."""
    copy = tmp_path / "unpacked" / BUNDLE.name
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("outputs", "runs", "__pycache__"))
    (tmp_path / "else where").mkdir()
    arguments = ["run", "--config_file", str(copy / "configs" / "inference.json")]
    process = command(
        *arguments,
        *options(output_dir=tmp_path / "out", device="cpu"),
        launcher=("-I", "-c", LONE_RUN),
        cwd=tmp_path / "else where",
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert f"custom_components from {copy / 'custom_components'}" in process.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["sample_panel.png", "sample_segmentation.json", "sample_segmentation.nii.gz"]
