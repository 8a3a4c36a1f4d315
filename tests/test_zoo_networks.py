"""The model zoo's checks of the bundles' networks."""

from __future__ import annotations

import json
import shutil

import pytest
from bundle_runs import BUNDLES
from tiny_exports import command

from custom_components.errors import InputError
from lefusion_scripts.zoo_networks import verify_network

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_s_metadata_tells_what_its_network_takes_and_gives(name):
    verify_network(BUNDLES / name)


@pytest.mark.integration
def test_command_checks_metadata_and_torchscript(tmp_path):
    process = command("zoo", "check-networks", "diffmask", folder=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "diffmask: inputs and output are as its metadata says" in process.stdout
    assert "diffmask: TorchScript gives what the network gives" in process.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [("outputs#pred#num_channels", 3, "output channel number"), ("outputs#pred#dtype", "float16", "dtype of output")],
)
def test_metadata_that_is_wrong_is_noticed(entry, value, said, tmp_path):
    shutil.copytree(BUNDLES / "diffmask" / "configs", tmp_path / "diffmask" / "configs")
    (tmp_path / "diffmask" / "models").symlink_to(BUNDLES / "diffmask" / "models")
    path = tmp_path / "diffmask" / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    part, name, key = entry.split("#")
    metadata["network_data_format"][part][name][key] = value
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match=f"diffmask is not as its metadata says: .*{said}"):
        verify_network(tmp_path / "diffmask")
