"""What MONAI, its model zoo and its users expect of a bundle, checked on every bundle as it is shipped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_facts import (
    FACTS,
    NAMES,
    bundle_fixture,  # noqa: F401 (a fixture)
    configs_of,
    every,
    metadata_of,
    read,
)
from bundle_runs import BUNDLES, LONE_RUN, TINY_NETWORK, options, read_configs, save_weights_of, stored_of
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out

MAX_BYTES = 25 * 2**20
MAX_SAMPLE_BYTES = 3 * 2**20


def test_every_bundle_that_paints_is_under_contract():
    """Those that draw masks are held to theirs in test_bundle_diffmask_contract.py."""
    assert sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/texture_presets.json")) == NAMES


def test_every_config_is_under_contract(bundle):
    files = {"train", "inference", "evaluate", "metadata", "synthesize", "texture_presets", "texture_levels"}
    assert {path.stem for path in configs_of(bundle).glob("*.json")} <= {*files, *FACTS[bundle].overlays}


# ------------------------------------------------------------------------------------- MONAI's own properties


@pytest.fixture(scope="module")
def data(bundle, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    FACTS[bundle].save_data(root)
    return root


def stand_in(bundle: str, folder: Path) -> dict[str, Any]:
    """Overrides that stand in for the shipped weights where there are none."""
    if (BUNDLES / bundle / "models" / "model.pt").is_file():
        return {}
    tiny = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
    return {"weights": str(save_weights_of(BUNDLES / bundle, folder / "tiny.pt")), **tiny}


@pytest.fixture(params=["repository", "bundle", "elsewhere with bundle_root", "elsewhere"])
def place(request, bundle, monkeypatch, repo_root, tmp_path) -> tuple[Path, dict[str, str]]:
    """A working directory: the configs' folder as seen from it, and the override of bundle_root."""
    root = BUNDLES / bundle
    if request.param == "repository":
        monkeypatch.chdir(repo_root)
        return configs_of(bundle).relative_to(repo_root), {"bundle_root": str(root.relative_to(repo_root))}
    if request.param == "bundle":
        monkeypatch.chdir(root)
        return Path("configs"), {}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return configs_of(bundle), {"bundle_root": str(root)} if "with" in request.param else {}


def missing_or_wrong(workflow_type: str, config: Path, **overrides: Any) -> list[str] | None:
    workflow = ConfigWorkflow(workflow_type=workflow_type, config_file=str(config), logging_file=False, **overrides)
    workflow.initialize()
    return workflow.check_properties()


def test_training_has_every_property(place, data, tmp_path):
    configs, root = place
    overrides = {"dataset_dir": str(data), "output_dir": str(tmp_path / "runs"), "device": "cpu", **root}
    assert missing_or_wrong("train", configs / "train.json", **overrides) == []


def test_inference_has_every_property_with_its_defaults(place, bundle, tmp_path):
    configs, root = place
    overrides = {"device": "cpu", **root, **stand_in(bundle, tmp_path)}
    assert missing_or_wrong("inference", configs / "inference.json", **overrides) == []


@pytest.mark.parametrize(
    ("names", "workflow"),
    [(["train"], "training"), (["inference"], "inference"), (["train", "evaluate"], "evaluating")],
)
def test_workflow_runs_by_its_name_and_by_default(bundle, names, workflow):
    content = read(bundle, *names)
    assert content["run"] == f"%{workflow}"
    assert content[workflow][0]["_target_"].endswith("install_excepthook")


# ------------------------------------------------------------------------------------------------- metadata


def test_metadata_follows_the_schema(bundle, repo_root):
    schema = (repo_root / os.environ.get("LEFUSION_SCHEMA", "../shared/schema/meta_schema_local.json")).resolve()
    if not schema.is_file():
        pytest.skip(f"no schema {schema}; LEFUSION_SCHEMA names the one to use")
    verify_metadata(meta_file=str(configs_of(bundle) / "metadata.json"), filepath=str(schema))


def test_version_has_a_changelog_entry(bundle):
    metadata = metadata_of(bundle)
    assert metadata["changelog"][metadata["version"]]


@pytest.mark.parametrize("key", ["version", "monai_version", "pytorch_version", "numpy_version", "name", "task"])
def test_metadata_holds_what_the_zoo_asks_for(bundle, key):
    assert metadata_of(bundle)[key]


def test_metadata_states_the_use_and_the_data(bundle):
    metadata = metadata_of(bundle)
    assert "not for clinical use" in metadata["intended_use"]
    assert FACTS[bundle].source in metadata["data_source"]
    assert metadata["name"] == bundle
    assert "_v" not in metadata["name"]


def test_required_packages_are_still_there_after_monai_has_read_the_metadata(bundle):
    """MONAI renames deprecated entries when it parses the metadata; one must not replace another."""
    parser = ConfigParser()
    parser.read_config(str(configs_of(bundle) / "inference.json"))
    parser.read_meta(str(configs_of(bundle) / "metadata.json"))
    parser.parse()
    required = metadata_of(bundle)["required_packages_version"]
    assert required.items() <= parser["_meta_"]["required_packages_version"].items()


def test_network_takes_and_gives_what_the_metadata_says(bundle):
    formats = metadata_of(bundle)["network_data_format"]
    inputs, outputs = formats["inputs"], formats["outputs"]
    extra = {"timesteps": torch.tensor([7])}
    if "context" in inputs:
        bins = inputs["context"]["spatial_shape"]
        extra["context"] = torch.full((1, inputs["context"]["num_channels"], *bins), 1 / bins[0])
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs_of(bundle) / "metadata.json"),
        config_file=str(configs_of(bundle) / "inference.json"),
        device="cpu",
        n=2,
        extra_forward_args=extra,
    )
    for entry in (*inputs.values(), *outputs.values()):
        assert len(entry["channel_def"]) == entry["num_channels"]
    config = read(bundle, "inference")
    assert inputs["image"]["num_channels"] == config["network_def"]["in_channels"]
    assert outputs["pred"]["num_channels"] == config["network_def"]["out_channels"]
    assert inputs["timesteps"]["value_range"] == [0, config["num_train_timesteps"] - 1]
    if "context" in inputs:
        assert inputs["context"]["spatial_shape"] == [config["network_def"]["num_bins"]]
        assert inputs["context"]["num_channels"] == len(config.get("lesion_classes", {"lesion": 1}))


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
def test_file_that_the_zoo_asks_for_is_there(bundle, file):
    assert (BUNDLES / bundle / file).stat().st_size > 0


def shipped_files(bundle: str) -> list[Path]:
    """The bundle's files, without what runs leave behind."""
    left_behind = {"outputs", "runs", "eval", "checkpoints", "__pycache__"}
    root = BUNDLES / bundle
    files = (path for path in root.rglob("*") if path.is_file())
    return [path for path in files if not left_behind.intersection(path.relative_to(root).parts)]


def test_no_file_is_too_large_for_the_zoo(bundle):
    sizes = {str(path): path.stat().st_size for path in shipped_files(bundle)}
    assert {path: size for path, size in sizes.items() if size > MAX_BYTES} == {}


def test_sample_is_small_enough_to_be_committed(bundle):
    sample = BUNDLES / bundle / "sample"
    assert sum(path.stat().st_size for path in sample.rglob("*") if path.is_file()) <= MAX_SAMPLE_BYTES


def test_weights_are_tensors_that_fit_the_network(bundle):
    path = BUNDLES / bundle / "models" / "model.pt"
    if not path.is_file():
        pytest.skip("no weights are shipped")
    network = read_configs(BUNDLES / bundle, "inference").get_parsed_content("network_def")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


@pytest.mark.parametrize(
    ("name", "path"), every(lambda name: [p for p in shipped_files(name) if p.suffix in (".md", ".txt", ".json")])
)
def test_text_has_no_gaps_and_no_home_folders(name, path):
    text = path.read_text()
    assert re.findall(r"@[A-Z]+@|TODO|/home/|/root/|/Users/", text) == []


# ---------------------------------------------------------------------------------------- the bundle on its own


@pytest.mark.integration
def test_lone_copy_runs_from_anywhere_without_the_repository(bundle, tmp_path):
    """As downloaded and unpacked: links followed, tiny weights in the place of the shipped ones."""
    copy = tmp_path / "unpacked" / bundle
    left_out = shutil.ignore_patterns("models", "outputs", "runs", "eval", "__pycache__")
    shutil.copytree(BUNDLES / bundle, copy, ignore=left_out)
    assert not (copy / "custom_components").is_symlink()
    (copy / "models").mkdir()
    save_weights_of(BUNDLES / bundle, copy / "models" / "model.pt")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    settings = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
    settings |= {"num_inference_steps": 1, "device": "cpu", "panel": False, **FACTS[bundle].lone}
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
    (case,) = json.loads((copy / "sample" / "datalist.json").read_text())
    record = json.loads((elsewhere / "out" / f"{case['case']}_lefusion.json").read_text())
    assert record["bundle"]["name"] == bundle
    before = stored_of(copy / "sample" / case["image"])
    after = stored_of(elsewhere / "out" / f"{case['case']}_lefusion.nii.gz")
    classes = read(bundle, "inference").get("lesion_classes", {"lesion": 1})
    lesion = np.isin(stored_of(copy / "sample" / case["label"]), list(classes.values()))
    assert np.array_equal(before[~lesion], after[~lesion])
    assert (before[lesion] != after[lesion]).mean() > 0.5
