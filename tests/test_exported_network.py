"""An exported file in the place of the network: what is painted and drawn with it, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES, Output, read_configs, stored_of
from tiny_exports import TINY_DRAWER, TINY_PAINTER, command, overrides, save_weights

from custom_components.errors import InputError, find_input_error
from custom_components.network_export import ExportedNetwork
from lefusion_scripts.export_network import export_torchscript
from lefusion_scripts.run import draw_masks

SAMPLE = BUNDLES / "lefusion_lidc" / "sample"
QUICK = {"device": "cpu", "panel": False, "progress": False, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def painter(tmp_path_factory):
    """Overrides of the lung bundle's tiny network."""
    folder = tmp_path_factory.mktemp("painter")
    return overrides(TINY_PAINTER, save_weights("lefusion_lidc", TINY_PAINTER, folder / "tiny.pt"))


@pytest.fixture(scope="module")
def exported(painter, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.ts"
    export_torchscript(str(path), spatial_size=[32, 32, 32], **painter)
    return path


@pytest.mark.integration
def test_painting_with_an_exported_file_is_painting_with_the_network(painter, exported, tmp_path):
    quick = {**QUICK, "spatial_size": [32, 32, 32], "texture": "solid"}
    words = ("generate", str(SAMPLE / "ct.nii.gz"), str(SAMPLE / "mask.nii.gz"))
    for name, settings in (("own", painter), ("file", {"config": "exported", "weights": exported})):
        process = command(*words, name, folder=tmp_path, **quick, **settings)
        assert process.returncode == 0, process.stderr
    own, file = (Output(tmp_path / name, "ct") for name in ("own", "file"))
    scan, lesion = stored_of(SAMPLE / "ct.nii.gz"), stored_of(SAMPLE / "mask.nii.gz") > 0
    assert np.array_equal(file.stored[~lesion], scan[~lesion])
    assert (file.stored[lesion] != scan[lesion]).mean() > 0.5
    assert np.abs(file.stored.astype(int) - own.stored).max() <= 1
    assert file.sidecar["weights"]["file"] == "tiny.ts"


def test_drawing_with_an_exported_file_is_drawing_with_the_network(tmp_path):
    tiny = overrides(TINY_DRAWER, save_weights("diffmask", TINY_DRAWER, tmp_path / "tiny.pt"))
    export_torchscript(str(tmp_path / "tiny.ts"), "diffmask", spatial_size=[16, 16, 16], **tiny)
    settings = {**QUICK, "grid": [24, 24, 24], "spheres": [[0, 0, 0, 6]], "fit_sphere": False}
    draw_masks(str(tmp_path / "own"), **settings, **tiny)
    draw_masks(str(tmp_path / "file"), config="exported", weights=str(tmp_path / "tiny.ts"), **settings)
    own, file = (stored_of(tmp_path / name / "grid_mask_1.nii.gz") for name in ("own", "file"))
    assert own.any()
    assert np.array_equal(own, file)


def test_condition_that_is_not_given_is_the_null_condition(exported):
    network = ExportedNetwork(exported)
    image, timesteps = torch.randn(1, 2, 8, 8, 8), torch.tensor([9])
    null, zeros = network(image, timesteps, context=None), network(image, timesteps, torch.zeros(1, 1, 16))
    assert torch.equal(null, zeros)
    assert not torch.equal(null, network(image, timesteps, context=torch.eye(16)[:1, None]))


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 3, 16, 16, 16), "takes an image of 2 channels, got 3"), ((1, 2, 16, 16, 15), r"multiples of \[4, 4, 4\]")],
)
def test_image_that_does_not_fit_is_refused(exported, shape, said):
    with pytest.raises(InputError, match=said):
        ExportedNetwork(exported)(torch.zeros(shape), torch.tensor([9]))


def test_input_that_is_missing_or_unknown_is_named(exported):
    network, image = ExportedNetwork(exported), torch.zeros(1, 2, 8, 8, 8)
    with pytest.raises(InputError, match="needs the input timesteps"):
        network(image)
    with pytest.raises(InputError, match="has no input labels"):
        network(image, torch.tensor([1]), labels=torch.zeros(1))


def test_file_exported_with_other_settings_is_refused(exported):
    parser = read_configs(BUNDLES / "lefusion_lidc", "inference", "exported")
    parser.update({"weights": str(exported), "device": "cpu", "prediction_type": "epsilon"})
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("network")
    said = str(find_input_error(raised.value))
    assert "exported with prediction_type 'v_prediction', the configs say 'epsilon'" in said
    assert said.endswith("it is for bundle lefusion_lidc with --config exported.")


def test_file_bound_to_another_device_is_refused(exported):
    with pytest.raises(InputError, match=r"cannot read|was exported on cpu and runs there alone"):
        ExportedNetwork(exported, device="cuda:0")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.ts", None, "does not exist"),
        ("a.pt", b"", "must end in one of"),
        ("a.ts", b"no network", "cannot read .*a.ts as torchscript"),
        ("a.pt2", b"no network", "cannot read .*a.pt2 as pt2"),
        ("a.onnx", b"no network", "cannot read .*a.onnx as onnx"),
    ],
)
def test_file_that_is_no_exported_network_is_one_sentence(name, content, said, tmp_path):
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        ExportedNetwork(tmp_path / name)


def test_torchscript_of_someone_else_is_told_apart(tmp_path):
    torch.jit.trace(torch.nn.Conv3d(1, 1, 1), torch.zeros(1, 1, 2, 2, 2)).save(str(tmp_path / "other.ts"))
    with pytest.raises(InputError, match="holds no record of its inputs"):
        ExportedNetwork(tmp_path / "other.ts")
