"""What MONAI's model zoo checks before it takes a bundle, done to every bundle that lies in the repository.

Its checks of the network's shapes and of the export to TorchScript are elsewhere: its own way of calling them cannot
pass timesteps, and every diffusion bundle of the zoo is excepted from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_facts import save_chests, save_hearts
from bundle_runs import BUNDLES, read_configs
from monai.bundle import create_workflow, verify_metadata
from monai.bundle.properties import InferProperties, MetaProperties, TrainProperties
from zoo_bundles import python

from lefusion_scripts.zoo_contents import MAX_BYTES, SCHEMA

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
# Data to train on, where four chests with a lesion of value 1 each are not what the bundle takes.
SAVE_DATA: dict[str, Callable[[Path], None]] = {"lefusion_emidec": save_hearts}
# Keys that the zoo wants under these very names, where a config has the part at all.
TRAIN_KEYS = ("bundle_root", "device", "dataset_dir", "output_dir", "val_interval")
TRAIN_PARTS = ("trainer", "trainer#max_epochs", "dataset", "dataset#data", "handlers", "preprocessing", "inferer")
VALIDATE_PARTS = ("evaluator", "handlers", "dataset", "dataset#data", "preprocessing", "inferer", "key_metric")
INFERENCE_KEYS = ("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "inferer")
MONAI_LABEL = "monai-label"


@pytest.fixture(params=NAMES, scope="module")
def bundle(request) -> Path:
    return BUNDLES / request.param


@pytest.fixture(scope="module")
def metadata(bundle) -> dict[str, Any]:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


@pytest.fixture(scope="module")
def data(bundle, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    SAVE_DATA.get(bundle.name, save_chests)(folder)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The working directory, which is neither the repository nor a bundle."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


# ----------------------------------------------------------------------------------------------- files and names


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.json",
        "configs/logging.conf",
        "models/model.pt",
        "docs/README.md",
        "docs/data_license.txt",
    ],
)
def test_file_is_there(bundle, name):
    assert (bundle / name).stat().st_size > 0


def test_no_file_is_larger_than_what_the_zoo_stores(bundle):
    large = {name: size for name, path in packed_files(bundle).items() if (size := path.stat().st_size) > MAX_BYTES}
    assert large == {}


def packed_files(bundle: Path) -> dict[str, Path]:
    """A bundle's files but those that runs and tools have left in it."""
    left = {"outputs", "runs", "eval", "checkpoints", "__pycache__"}
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle)): path for path in files if not left & set(path.relative_to(bundle).parts)}


def test_name_says_what_the_bundle_is_and_has_no_version_in_it(bundle, metadata):
    assert metadata["name"] == bundle.name
    assert re.fullmatch(r"[a-z][a-z0-9_]*", bundle.name)
    assert "_v" not in bundle.name


def test_configs_name_nobody_s_home(bundle):
    for path in (bundle / "configs").glob("*.json"):
        assert not re.search(r"/(home|root|Users|work)/", path.read_text()), path.name


# --------------------------------------------------------------------------------------------------- metadata


def test_version_is_in_the_changelog_and_above_the_others(metadata):
    def order(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    assert metadata["changelog"][metadata["version"]]
    assert max(metadata["changelog"], key=order) == metadata["version"]


def test_metadata_follows_the_packaged_schema(bundle):
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(SCHEMA))


def test_metadata_without_a_task_does_not(bundle, metadata, elsewhere):
    (elsewhere / "metadata.json").write_text(json.dumps({key: metadata[key] for key in metadata if key != "task"}))
    with pytest.raises(ValueError, match="'task' is a required property"):
        verify_metadata(meta_file="metadata.json", filepath=str(SCHEMA))


@pytest.mark.integration
def test_metadata_is_verified_by_monai_s_command_without_a_network(elsewhere):
    arguments = ["--meta_file", BUNDLES / NAMES[0] / "configs" / "metadata.json", "--filepath", SCHEMA]
    process = python(
        "-m", "monai.bundle", "verify_metadata", *arguments, cwd=elsewhere, https_proxy="http://127.0.0.1:1"
    )
    assert process.returncode == 0, process.stderr
    assert "metadata is verified with no error" in process.stdout + process.stderr


# ------------------------------------------------------------------------------------------------------- configs


def test_configs_use_the_zoo_s_names(bundle):
    train, inference = (read_configs(bundle, name) for name in ("train", "inference"))
    wanted = [
        *TRAIN_KEYS,
        *(f"train#{part}" for part in TRAIN_PARTS),
        *(f"validate#{part}" for part in VALIDATE_PARTS),
    ]
    assert [key for key in wanted if key not in train] == []
    assert [key for key in INFERENCE_KEYS if key not in inference] == []
    handlers = {entry["_target_"]: entry for entry in train["train#handlers"]}
    assert handlers["ValidationHandler"]["interval"] == "@val_interval"


def missing(config_file: Path, workflow_type: str, properties: dict[str, Any], **overrides: Any) -> list[str] | None:
    """What a workflow lacks of the properties, all of which are instantiated."""
    workflow = create_workflow(
        config_file=str(config_file),
        workflow_type=workflow_type,
        meta_file=str(config_file.parent / "metadata.json"),
        logging_file=False,
        **overrides,
    )
    workflow.properties = properties
    return workflow.check_properties()


def test_training_has_every_property_from_anywhere(bundle, data, elsewhere):
    overrides = {"dataset_dir": str(data), "output_dir": "runs", "device": "cpu"}
    assert missing(bundle / "configs" / "train.json", "train", TrainProperties | MetaProperties, **overrides) == []


def test_training_without_a_data_set_key_is_noticed(bundle, data, elsewhere):
    """The check would otherwise be one that anything passes."""
    config = json.loads((bundle / "configs" / "train.json").read_text())
    del config["dataset_dir"]
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "train.json").write_text(json.dumps(config))
    (elsewhere / "configs" / "metadata.json").write_text((bundle / "configs" / "metadata.json").read_text())
    with pytest.raises(KeyError, match="dataset_dir"):
        missing(elsewhere / "configs" / "train.json", "train", TrainProperties, bundle_root=str(bundle))


def test_inference_has_every_property_from_anywhere(bundle, elsewhere):
    overrides = {"output_dir": "outputs", "device": "cpu"}
    config = bundle / "configs" / "inference.json"
    assert missing(config, "inference", InferProperties | MetaProperties, **overrides) == []


def test_bundle_has_what_the_applications_need_that_it_names(metadata):
    """The zoo checks a bundle by the properties of each application that its metadata names."""
    applications = metadata.get("supported_apps", {})
    assert set(applications) <= {MONAI_LABEL}, "add a check of what this application needs"
    if MONAI_LABEL in applications:
        formats = metadata["network_data_format"]
        first_input, first_output = next(iter(formats["inputs"])), next(iter(formats["outputs"]))
        assert (first_input, first_output) == ("image", "pred")
        assert formats["outputs"]["pred"]["channel_def"]
