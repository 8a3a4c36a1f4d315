"""From a packed bundle to its run elsewhere: MONAI's own download takes it from a local zoo."""

from __future__ import annotations

import importlib.util
import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from bundle_runs import TINY_NETWORK, options, stored_of
from zoo_bundles import NAME, command, edit_metadata, pack, python, rewrite, served, small_bundle, version_of

from custom_components.errors import InputError
from lefusion_scripts.zoo_server import open_zoo

TINY = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
# Takes away the repository, which an editable installation lets Python find even with -I.
ALONE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import importlib.util
assert importlib.util.find_spec("custom_components") is None
"""
RUN = """
import runpy
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
import custom_components
print("custom_components from", custom_components.__file__)
"""
LOAD = """
import json
from pathlib import Path
import monai.bundle
root, tiny = Path(sys.argv[1]), json.loads(sys.argv[2])
sys.path.insert(0, str(root))
overrides = {key.split("#")[1]: value for key, value in tiny.items()}
network = monai.bundle.load(root.name, bundle_dir=root.parent, workflow_type="inference", net_override=overrides)
print("network of", sys.modules[type(network).__module__].__file__)
config = str(root / "configs" / "inference.json")
workflow = monai.bundle.create_workflow(config_file=config, workflow_type="inference", **tiny)
print("lacks", workflow.check_properties(), workflow.bundle_root)
"""


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """A zoo of two versions of a bundle, packed by the command."""
    folder = tmp_path_factory.mktemp("zoo")
    root = small_bundle(folder)
    for version in ("0.9.0", "0.10.0"):
        edit_metadata(root, version=version, changelog={version: "a version"})
        pack(root, folder / "dist")
    return folder / "dist"


@pytest.fixture(scope="module")
def address(zoo):
    with served(zoo) as url:
        yield url


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@pytest.mark.integration
def test_packed_twice_served_downloaded_and_run_alone(tmp_path):
    root = small_bundle(tmp_path / "repository")
    for output in ("first", "second"):
        process = command("pack", "--bundle", root, "--output", output, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    name = f"{NAME}_v{version_of(root)}.zip"
    for file in (name, "model_info.json", "SHA256SUMS"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()

    home = tmp_path / "another home"
    home.mkdir()
    with served(tmp_path / "first") as url:
        download = ["download", "--name", NAME, "--url", f"{url}/{name}", "--bundle_dir", home]
        process = python("-m", "monai.bundle", *download, cwd=home)
    assert process.returncode == 0, process.stderr
    (tmp_path / "repository").rename(tmp_path / "gone")
    bundle = home / NAME

    (tmp_path / "elsewhere").mkdir()
    settings = {**TINY, "num_inference_steps": 2, "spatial_size": [32, 32, 32], "texture": "solid", "device": "cpu"}
    arguments = options(config_file=bundle / "configs" / "inference.json", output_dir="out", **settings)
    process = python("-I", "-c", ALONE + RUN, "run", *arguments, cwd=tmp_path / "elsewhere")
    assert process.returncode == 0, process.stderr
    assert f"custom_components from {bundle / 'custom_components' / '__init__.py'}" in process.stdout
    out = tmp_path / "elsewhere" / "out"
    (case,) = json.loads((bundle / "sample" / "datalist.json").read_text())
    lesion = stored_of(bundle / "sample" / case["label"]) > 0
    before, after = stored_of(bundle / "sample" / case["image"]), stored_of(out / f"{case['case']}_lefusion.nii.gz")
    assert np.array_equal(before[~lesion], after[~lesion])
    assert (before[lesion] != after[lesion]).mean() > 0.5

    process = python("-I", "-c", ALONE + LOAD, bundle, json.dumps(TINY), cwd=tmp_path / "elsewhere")
    assert process.returncode == 0, process.stderr
    assert f"network of {bundle / 'custom_components'}" in process.stdout
    assert f"lacks [] {bundle}" in process.stdout


@pytest.mark.integration
@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="needs huggingface_hub")
@pytest.mark.parametrize(
    ("source", "version"),
    [
        (["huggingface_hub", "--repo", f"zoo/{NAME}"], "0.10.0"),
        (["huggingface_hub", "--repo", f"zoo/{NAME}", "--version", "0.9.0"], "0.9.0"),
        (["monaihosting", "--version", "0.9.0"], "0.9.0"),
    ],
)
def test_sources_that_ask_a_hub_are_served_too(zoo, address, tmp_path, source, version):
    download = ["download", "--name", NAME, "--bundle_dir", tmp_path, "--source", *source]
    process = python("-m", "monai.bundle", *download, cwd=tmp_path, HF_ENDPOINT=address, HF_HOME=str(tmp_path / "hf"))
    assert process.returncode == 0, process.stderr
    assert version_of(tmp_path / NAME) == version
    assert (tmp_path / NAME / "custom_components" / "losses.py").is_file()


def test_hub_answers_with_versions_files_and_their_contents(zoo, address):
    base = f"{address}/api/models/anyone/{NAME}"
    refs = json.loads(get(f"{base}/refs"))
    assert [tag["name"] for tag in refs["tags"]] == ["0.9.0", "0.10.0"]
    newest = json.loads((zoo / "model_info.json").read_text())[f"{NAME}_v0.10.0"]["checksum"]
    assert json.loads(get(base))["sha"] == json.loads(get(f"{base}/revision/main"))["sha"] == newest
    names = [file["rfilename"] for file in json.loads(get(f"{base}/revision/0.9.0"))["siblings"]]
    tree = json.loads(get(f"{base}/tree/0.9.0?recursive=true"))
    assert [entry["path"] for entry in tree] == names
    content = get(f"{address}/anyone/{NAME}/resolve/0.9.0/configs/metadata.json")
    assert json.loads(content)["version"] == "0.9.0"
    assert {len(content)} == {entry["size"] for entry in tree if entry["path"] == "configs/metadata.json"}


def test_record_leads_to_the_zoo_that_serves_it(zoo, address):
    info = json.loads(get(f"{address}/model_info.json"))
    for version in ("0.9.0", "0.10.0"):
        entry = info[f"{NAME}_v{version}"]
        assert entry["source"] == f"{address}/{NAME}_v{version}.zip"
        assert get(entry["source"]) == (zoo / f"{NAME}_v{version}.zip").read_bytes()
    assert get(f"{address}/SHA256SUMS") == (zoo / "SHA256SUMS").read_bytes()


def test_name_alone_is_the_newest_version(zoo, address):
    assert get(f"{address}/{NAME}.zip") == (zoo / f"{NAME}_v0.10.0.zip").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/other.zip",
        "/../conftest.py",
        "/%2e%2e/conftest.py",
        "//etc/passwd",
        "/api/models/a/other/revision/main",
        f"/api/models/a/{NAME}/revision/7.0.0",
        f"/a/{NAME}/resolve/main/../../etc/passwd",
        f"/a/{NAME}/resolve/main/missing.txt",
    ],
)
def test_nothing_else_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(address + path)


def test_zoo_that_cannot_be_served_is_told(zoo, tmp_path):
    with pytest.raises(InputError, match="holds no zips of bundles; `lefusion zoo pack"):
        open_zoo(tmp_path, "127.0.0.1", 0)
    with open_zoo(zoo, "127.0.0.1", 0) as server, pytest.raises(InputError, match=r"cannot serve at 127\.0\.0\.1:"):
        open_zoo(zoo, "127.0.0.1", server.server_address[1])
    with pytest.raises(InputError, match=r"cannot serve at 127\.0\.0\.1:many"):
        open_zoo(zoo, "127.0.0.1", "many")


def test_tampered_zip_is_not_served(tmp_path):
    path = pack(small_bundle(tmp_path), tmp_path / "dist")
    rewrite(path, {f"{NAME}/docs/README.md": b"other words"})
    with pytest.raises(InputError, match="is not the file of SHA256SUMS"):
        open_zoo(path.parent, "127.0.0.1", 0)
