"""What MONAI, its model zoo and its users expect of a bundle, checked on the bundle as it is shipped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from monai.bundle.config_item import ComponentLocator
from test_bundle_inference import BUNDLE, TINY_NETWORK, balls, chest, options, save_nifti, save_tiny_weights, stored_of

CONFIGS = BUNDLE / "configs"
MAX_BYTES = 25 * 2**20
WORKFLOWS = (["train"], ["inference"], ["train", "evaluate"])
OVERLAYS = (
    ["train", "train_cpu"],
    ["train", "multi_gpu_train"],
    ["train", "diffused"],
    ["inference", "diffused"],
    ["train", "evaluate", "diffused"],
    ["inference", "paper_sampler"],
    ["train", "evaluate", "paper_sampler"],
    ["inference", "published"],
    ["train", "evaluate", "published"],
)
# Keys that MONAI itself looks for.
MONAI_KEYS = {"imports", "initialize", "run", "finalize", "bundle_root", "device", "dataset_dir", "network_def"}


def read(*names: str) -> dict[str, Any]:
    """Configs by name, merged as MONAI merges them."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in names])
    return {key: value for key, value in parser.get().items() if key != "_meta_"}


METADATA = json.loads((CONFIGS / "metadata.json").read_text())


# ------------------------------------------------------------------------------------- MONAI's own properties


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four patients with one lesion each."""
    root = tmp_path_factory.mktemp("data")
    shape = (20, 20, 20)
    for name in "abcd":
        save_nifti(root / "images" / f"{name}.nii.gz", chest(shape))
        save_nifti(root / "labels" / f"{name}.nii.gz", balls(shape, [((10, 10, 10), 4)]).astype(np.uint8))
    return root


@pytest.fixture
def weights(tmp_path) -> dict[str, Any]:
    """Overrides that stand in for the shipped weights where there are none."""
    if (BUNDLE / "models" / "model.pt").is_file():
        return {}
    tiny = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
    return {"weights": str(save_tiny_weights(tmp_path / "tiny.pt")), **tiny}


@pytest.fixture(params=["repository", "bundle", "elsewhere with bundle_root", "elsewhere"])
def place(request, monkeypatch, repo_root, tmp_path) -> tuple[Path, dict[str, str]]:
    """A working directory: the configs' folder as seen from it, and the override of bundle_root."""
    if request.param == "repository":
        monkeypatch.chdir(repo_root)
        return CONFIGS.relative_to(repo_root), {"bundle_root": str(BUNDLE.relative_to(repo_root))}
    if request.param == "bundle":
        monkeypatch.chdir(BUNDLE)
        return Path("configs"), {}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return CONFIGS, {"bundle_root": str(BUNDLE)} if "with" in request.param else {}


def missing_or_wrong(workflow_type: str, config: Path, **overrides: Any) -> list[str] | None:
    workflow = ConfigWorkflow(workflow_type=workflow_type, config_file=str(config), logging_file=False, **overrides)
    workflow.initialize()
    return workflow.check_properties()


def test_training_has_every_property(place, data, tmp_path):
    configs, root = place
    overrides = {"dataset_dir": str(data), "output_dir": str(tmp_path / "runs"), "device": "cpu", **root}
    assert missing_or_wrong("train", configs / "train.json", **overrides) == []


def test_inference_has_every_property_with_its_defaults(place, weights):
    configs, root = place
    assert missing_or_wrong("inference", configs / "inference.json", device="cpu", **root, **weights) == []


@pytest.mark.parametrize(
    ("names", "workflow"),
    [(["train"], "training"), (["inference"], "inference"), (["train", "evaluate"], "evaluating")],
)
def test_workflow_runs_by_its_name_and_by_default(names, workflow):
    content = read(*names)
    assert content["run"] == f"%{workflow}"
    assert content[workflow][0]["_target_"].endswith("install_excepthook")


# ------------------------------------------------------------------------------------------------- metadata


def test_metadata_follows_the_schema(repo_root):
    schema = (repo_root / os.environ.get("LEFUSION_SCHEMA", "../shared/schema/meta_schema_local.json")).resolve()
    if not schema.is_file():
        pytest.skip(f"no schema {schema}; LEFUSION_SCHEMA names the one to use")
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(schema))


def test_version_has_a_changelog_entry():
    assert METADATA["changelog"][METADATA["version"]]


@pytest.mark.parametrize("key", ["version", "monai_version", "pytorch_version", "numpy_version", "name", "task"])
def test_metadata_holds_what_the_zoo_asks_for(key):
    assert METADATA[key]


def test_metadata_states_the_use_and_the_data():
    assert "not for clinical use" in METADATA["intended_use"]
    assert "LIDC" in METADATA["data_source"]
    assert METADATA["name"] == BUNDLE.name
    assert "_v" not in METADATA["name"]


def test_required_packages_are_still_there_after_monai_has_read_the_metadata():
    """MONAI renames deprecated entries when it parses the metadata; one must not replace another."""
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.json"))
    parser.read_meta(str(CONFIGS / "metadata.json"))
    parser.parse()
    assert METADATA["required_packages_version"].items() <= parser["_meta_"]["required_packages_version"].items()


def test_network_takes_and_gives_what_the_metadata_says():
    extra = {"timesteps": torch.tensor([7]), "context": torch.full((1, 1, 16), 1 / 16)}
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device="cpu",
        n=2,
        extra_forward_args=extra,
    )
    inputs, outputs = METADATA["network_data_format"]["inputs"], METADATA["network_data_format"]["outputs"]
    for entry in (*inputs.values(), *outputs.values()):
        assert len(entry["channel_def"]) == entry["num_channels"]
    config = read("inference")
    assert inputs["image"]["num_channels"] == config["network_def"]["in_channels"]
    assert outputs["pred"]["num_channels"] == config["network_def"]["out_channels"]
    assert inputs["timesteps"]["value_range"] == [0, config["num_train_timesteps"] - 1]
    assert inputs["context"]["spatial_shape"] == [config["network_def"]["num_bins"]]


# --------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "file",
    [
        "LICENSE",
        "configs/inference.json",
        "configs/train.json",
        "configs/evaluate.json",
        "configs/multi_gpu_train.json",
        "configs/metadata.json",
        "configs/logging.conf",
        "configs/texture_presets.json",
        "docs/README.md",
        "docs/data_license.txt",
        "models/model.pt",
    ],
)
def test_file_that_the_zoo_asks_for_is_there(file):
    assert (BUNDLE / file).stat().st_size > 0


def shipped_files() -> list[Path]:
    """The bundle's files, without what runs leave behind."""
    left_behind = {"outputs", "runs", "eval", "checkpoints", "__pycache__"}
    files = (path for path in BUNDLE.rglob("*") if path.is_file())
    return [path for path in files if not left_behind.intersection(path.relative_to(BUNDLE).parts)]


def test_no_file_is_too_large_for_the_zoo():
    assert {
        str(path.relative_to(BUNDLE)): size for path in shipped_files() if (size := path.stat().st_size) > MAX_BYTES
    } == {}


def test_sample_is_small_enough_to_be_committed():
    assert sum(path.stat().st_size for path in (BUNDLE / "sample").rglob("*") if path.is_file()) <= 3 * 2**20


def test_weights_are_tensors_that_fit_the_network():
    path = BUNDLE / "models" / "model.pt"
    if not path.is_file():
        pytest.skip("no weights are shipped")
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "inference.json"))
    parser.get_parsed_content("network_def").load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize(
    "path", [p for p in shipped_files() if p.suffix in (".md", ".txt", ".json")], ids=lambda p: p.name
)
def test_text_has_no_gaps_and_no_home_folders(path):
    text = path.read_text()
    assert re.findall(r"@[A-Z]+@|TODO|/home/|/root/|/Users/", text) == []


# ------------------------------------------------------------------------------------------------- configs


def targets(content: Any) -> set[str]:
    """Every ``_target_`` of a config."""
    if isinstance(content, dict):
        own = {content["_target_"]} if isinstance(content.get("_target_"), str) else set()
        return own.union(*(targets(value) for value in content.values()))
    if isinstance(content, list):
        return set().union(*(targets(value) for value in content))
    return set()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.name)
def test_config_is_json_and_everything_it_names_exists(path):
    names = targets(json.loads(path.read_text()))
    monai = ComponentLocator()
    for name in names:
        if "." in name:
            module, _, attribute = name.rpartition(".")
            assert hasattr(import_module(module), attribute), name
        else:
            assert monai.get_component_module_name(name), name


@pytest.mark.parametrize("names", OVERLAYS, ids="+".join)
def test_overlay_only_changes_what_is_there(names):
    """A key that the configs below it lack would be accepted by MONAI and do nothing."""
    base, overlay = read(*names[:-1]), json.loads((CONFIGS / f"{names[-1]}.json").read_text())
    unknown = {key.split("#")[0] for key in overlay} - set(base) - MONAI_KEYS
    assert unknown == set()
    read(*names)


@pytest.mark.parametrize("names", [*WORKFLOWS, *OVERLAYS], ids="+".join)
def test_config_has_no_dead_keys(names):
    """Every key of the last config is used by another one, or by MONAI."""
    text = json.dumps(read(*names))
    own = {key.split("#")[0] for key in json.loads((CONFIGS / f"{names[-1]}.json").read_text())}
    assert {key for key in own if f"@{key}" not in text and f"%{key}" not in text} - MONAI_KEYS == set()


@pytest.mark.parametrize(
    "key", ["num_train_timesteps", "context", "prediction_type", "spacing_mm", "hu_window", "network_def"]
)
def test_training_and_inference_agree(key):
    assert read("train")[key] == read("inference")[key]


# ---------------------------------------------------------------------------------------- the bundle on its own

LONE_RUN = """
import runpy, sys
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
import custom_components
print("custom_components from", custom_components.__file__)
"""


@pytest.mark.integration
def test_lone_copy_runs_from_anywhere_without_the_repository(tmp_path):
    """As downloaded and unpacked: links followed, tiny weights in the place of the shipped ones."""
    copy = tmp_path / "unpacked" / BUNDLE.name
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("models", "outputs", "runs", "eval", "__pycache__"))
    assert not (copy / "custom_components").is_symlink()
    (copy / "models").mkdir()
    save_tiny_weights(copy / "models" / "model.pt")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    settings = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
    settings |= {
        "spatial_size": [32, 32, 32],
        "num_inference_steps": 1,
        "device": "cpu",
        "panel": False,
        "texture": "solid",
    }
    # -I: neither the working directory nor PYTHONPATH is on the path. The bundle finds itself.
    command = [sys.executable, "-I", "-c", LONE_RUN, "run", "--config_file", str(copy / "configs" / "inference.json")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [*command, *options(**settings, output_dir=elsewhere / "out")],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"custom_components from {copy / 'custom_components' / '__init__.py'}" in result.stdout
    record = json.loads((elsewhere / "out" / "sample_lefusion.json").read_text())
    assert record["bundle"]["name"] == BUNDLE.name
    before, after = stored_of(copy / "sample" / "ct.nii.gz"), stored_of(elsewhere / "out" / "sample_lefusion.nii.gz")
    mask = stored_of(copy / "sample" / "mask.nii.gz") > 0
    assert np.array_equal(before[~mask], after[~mask])
    assert (before[mask] != after[mask]).any()
    assert [path.name for path in elsewhere.iterdir()] == ["out"]
