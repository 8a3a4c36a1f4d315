"""The commands that write a bundle's network as a file: real ones, small networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, read_configs
from tiny_exports import TINY_DRAWER, command, overrides, save_weights

from custom_components.errors import InputError
from custom_components.files import file_hash
from custom_components.network_export import FORMATS, ExportedNetwork
from custom_components.weights import load_weights
from lefusion_scripts import export_network as module
from lefusion_scripts.cli import check_flags
from lefusion_scripts.export_network import export_network, export_onnx, export_pt2, export_torchscript

SUFFIXES = {"torchscript": "ts", "onnx": "onnx", "pt2": "pt2"}


@pytest.fixture(scope="module")
def drawer(tmp_path_factory):
    """Overrides for diffmask with a tiny network."""
    folder = tmp_path_factory.mktemp("drawer")
    return overrides(TINY_DRAWER, save_weights("diffmask", TINY_DRAWER, folder / "tiny.pt"))


def network_of(bundle, settings, *overlays):
    parser = read_configs(BUNDLES / bundle, "inference", *overlays)
    parser.update(settings)
    return load_weights(parser.get_parsed_content("network_def"), settings["weights"])


@pytest.mark.integration
def test_onnx_file_gives_in_another_program_what_the_network_gives_at_sizes_it_never_saw(drawer, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    process = command("export", "onnx", "tiny.onnx", folder=tmp_path, bundle="diffmask", **drawer)
    assert process.returncode == 0, process.stderr
    assert "1x2x24x24x24: largest difference" in process.stdout
    assert "2x2x28x28x28: largest difference" in process.stdout
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["image", "timesteps"]
    assert [entry.name for entry in session.get_outputs()] == ["pred"]
    image, timesteps = torch.randn(3, 2, 12, 20, 16), torch.tensor([0, 100, 299])
    (pred,) = session.run(None, {"image": image.numpy(), "timesteps": timesteps.numpy()})
    with torch.no_grad():
        wanted = network_of("diffmask", drawer)(image, timesteps)
    np.testing.assert_allclose(pred, wanted.numpy(), atol=1e-4)
    record = json.loads(session.get_modelmeta().custom_metadata_map["metadata.json"])
    assert record["weights"] == {"file": "tiny.pt", "sha256": file_hash(drawer["weights"])}
    metadata = json.loads((BUNDLES / "diffmask" / "configs" / "metadata.json").read_text())
    assert (record["bundle"], record["version"]) == ("diffmask", metadata["version"])
    assert record["inputs"][0]["shape"] == ["N", 2, "4*n", "4*n", "4*n"]
    assert record["inputs"][1] == {
        "name": "timesteps",
        "shape": ["N"],
        "dtype": "int64",
        "value_range": [0, 299],
        "meaning": ["diffusion timestep"],
        "format": "timesteps",
    }
    assert record["spatial_divisor"] == [4, 4, 4]


def test_exported_program_gives_what_the_network_gives_for_one_sample_and_more(drawer, tmp_path):
    export_pt2(str(tmp_path / "tiny.pt2"), "diffmask", **drawer)
    exported, network = ExportedNetwork(tmp_path / "tiny.pt2").eval(), network_of("diffmask", drawer)
    for batch in (1, 3):
        image, timesteps = torch.randn(batch, 2, 8, 16, 12), torch.arange(batch) * 90
        with torch.no_grad():
            wanted = network(image, timesteps)
        torch.testing.assert_close(exported(image, timesteps, context=None), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("bundle", "config", "channels", "classes"),
    [
        ("lefusion_lidc", (), 2, 1),
        ("lefusion_emidec", (), 3, 2),
        ("diffmask", (), 2, 1),
        ("diffmask", ("emidec",), 4, 2),
    ],
)
def test_every_bundle_s_own_network_becomes_torchscript(bundle, config, channels, classes, tmp_path):
    comparisons = export_network("torchscript", str(tmp_path / "own.ts"), bundle, config, spatial_size=[16, 16, 16])
    assert [found.relative < 1e-5 for found in comparisons] == [True, True]
    assert [found.largest > 0.1 for found in comparisons] == [True, True]
    exported = ExportedNetwork(tmp_path / "own.ts")
    assert exported.record["inputs"][0]["shape"][1] == channels
    assert exported.record["outputs"][0]["shape"][1] == classes
    assert exported(torch.zeros(1, channels, 16, 16, 8), torch.tensor([5])).shape == (1, classes, 16, 16, 8)


def test_traced_published_network_takes_other_sizes_than_it_was_traced_with(tmp_path):
    tiny = {"width": 8, "multipliers": [1, 2], "num_heads": 2, "head_dim": 4}
    weights = save_weights("lefusion_lidc", tiny, tmp_path / "tiny.pt", "published")
    settings = overrides(tiny, weights)
    export_torchscript(str(tmp_path / "tiny.ts"), config=["published"], spatial_size=[16, 16, 6], **settings)
    exported, network = ExportedNetwork(tmp_path / "tiny.ts"), network_of("lefusion_lidc", settings, "published")
    image, context = torch.randn(2, 1, 72, 70, 9), torch.full((2, 1, 16), 1 / 16)
    with torch.no_grad():
        wanted = network(image, torch.tensor([3, 200]), context)
    found = exported(image, torch.tensor([3, 200]), context=context)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert exported.record["settings"]["prediction_type"] == "epsilon"


def test_network_of_one_input_is_exported_without_timesteps(tmp_path):
    """As of a segmentation: its metadata has the image alone, and nothing in it checks sizes."""
    metadata = json.loads((BUNDLES / "diffmask" / "configs" / "metadata.json").read_text())
    del metadata["network_data_format"]["inputs"]["timesteps"]
    (tmp_path / "plain" / "configs").mkdir(parents=True)
    (tmp_path / "plain" / "configs" / "metadata.json").write_text(json.dumps(metadata))
    network = {"_target_": "monai.networks.nets.UNet", "spatial_dims": 3, "in_channels": 2, "out_channels": 3}
    network |= {"channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1}
    config = {"device": "cpu", "weights": str(tmp_path / "plain.pt"), "spatial_size": [16, 16, 16]}
    config["network_def"] = network
    config["network"] = {
        "_target_": "custom_components.weights.load_weights",
        "network": "@network_def",
        "path": "@weights",
    }
    (tmp_path / "plain" / "configs" / "inference.json").write_text(json.dumps(config))
    parser = read_configs(tmp_path / "plain", "inference")
    torch.save(parser.get_parsed_content("network_def").state_dict(), tmp_path / "plain.pt")
    export_torchscript(str(tmp_path / "plain.ts"), str(tmp_path / "plain"))
    exported = ExportedNetwork(tmp_path / "plain.ts")
    assert [entry["name"] for entry in exported.record["inputs"]] == ["image"]
    assert exported(torch.zeros(1, 2, 20, 24, 28)).shape == (1, 3, 20, 24, 28)


# ------------------------------------------------------------------------------------------------- refusals


def test_existing_file_is_replaced_only_when_asked(drawer, tmp_path):
    path = tmp_path / "tiny.ts"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"tiny\.ts exists; --overwrite true"):
        export_torchscript(str(path), "diffmask", **drawer)
    assert path.read_text() == "mine"
    export_torchscript(str(path), "diffmask", overwrite="true", **drawer)
    assert ExportedNetwork(path).record["format"] == "torchscript"


def test_file_that_differs_from_the_network_is_not_kept(drawer, tmp_path, monkeypatch):
    def other(network, inputs, record, path):
        with torch.no_grad():
            next(p for p in network.fine.parameters()).add_(0.5)
        FORMATS["torchscript"].write(network, inputs, record, path)
        with torch.no_grad():
            next(p for p in network.fine.parameters()).sub_(0.5)

    changed = type(FORMATS["torchscript"])("torchscript", ".ts", other, FORMATS["torchscript"].load)
    monkeypatch.setattr(module, "FORMATS", {"torchscript": changed})
    monkeypatch.setattr(module, "format_of", lambda path: changed)
    with pytest.raises(InputError, match=r"torchscript differs from the network by .* more than the tolerance"):
        export_torchscript(str(tmp_path / "tiny.ts"), "diffmask", **drawer)
    assert list(tmp_path.iterdir()) == []


def test_missing_package_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("custom_components.network_export.formats.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx needs onnx and onnxscript and onnxruntime: pip install"):
        export_onnx(str(tmp_path / "tiny.onnx"), "no_such_bundle")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("onnx", "a.ts"), r"output a\.ts must end in \.onnx"),
        (("pt2", "a.bin"), r"a\.bin must end in one of \.ts \(torchscript\), \.onnx \(onnx\), \.pt2 \(pt2\)"),
        (("tflite", "a.tflite"), r"format must be one of torchscript, onnx, pt2"),
        (("torchscript", "a.ts", "diffmask", (), [15, 16, 16]), r"multiples of \[4, 4, 4\]"),
        (("torchscript", "a.ts", "diffmask", (), [24, 24]), r"three whole numbers of voxels, .*got \[24, 24\]"),
        (("torchscript", "a.ts", "diffmask", (), "24x24x24"), "three whole numbers of voxels"),
        (("torchscript", "a.ts", "diffmask", (), None, "tight"), "tolerance must be a number above 0, got 'tight'"),
        (("torchscript", "a.ts", "diffmask", "no_overlay"), "config no_overlay is neither"),
    ],
)
def test_wrong_request_is_one_sentence(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        export_network(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_format_that_the_command_does_not_have_is_told_with_those_it_has():
    with pytest.raises(InputError, match=r"tflite is none of dicom, .*onnx, pt2, torchscript"):
        check_flags(["export", "tflite", "a"])
