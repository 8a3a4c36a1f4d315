"""The TensorRT overlay: its keys, what it refuses where it cannot run, and what it hands to MONAI where it can."""

from __future__ import annotations

import pytest
import torch
from bundle_runs import BUNDLES, read_configs
from tiny_exports import TINY_DRAWER, overrides, save_weights

from custom_components import tensorrt
from custom_components.errors import InputError, find_input_error
from custom_components.tensorrt import compile_with_tensorrt


@pytest.mark.parametrize("bundle", ["lefusion_lidc", "lefusion_emidec", "diffmask"])
def test_overlay_names_keys_that_its_bundle_has(bundle):
    parser = read_configs(BUNDLES / bundle, "inference", "inference_trt")
    for key in ("weights", "spatial_size", "batch_size"):
        assert parser.get(f"network#{key}") == f"@{key}"
        assert key in parser
    assert parser.get("network#network#path") == "@weights"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_overlay_says_so(tmp_path):
    parser = read_configs(BUNDLES / "diffmask", "inference", "inference_trt")
    parser.update(overrides(TINY_DRAWER, save_weights("diffmask", TINY_DRAWER, tmp_path / "tiny.pt")))
    with pytest.raises(Exception, match="network") as raised:
        parser.get_parsed_content("network")
    assert "needs an NVIDIA GPU with CUDA" in str(find_input_error(raised.value))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: name if name == "onnx" else None)
    with pytest.raises(InputError, match="pip install tensorrt polygraphy cuda-python"):
        compile_with_tensorrt(torch.nn.Linear(1, 1), "model.pt", [16, 16, 16])


def test_network_elsewhere_than_on_the_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: name)
    with pytest.raises(InputError, match="--device cuda:0"):
        compile_with_tensorrt(torch.nn.Linear(1, 1), "model.pt", [16, 16, 16])


def test_unknown_precision_is_refused():
    with pytest.raises(InputError, match="precision must be fp32, tf32, fp16 or bf16, got 'int8'"):
        compile_with_tensorrt(torch.nn.Linear(1, 1), "model.pt", [16, 16, 16], precision="int8")


def test_engine_is_kept_for_its_size_batch_and_precision(monkeypatch, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tensorrt, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorrt, "trt_compile", lambda network, path, args: (path, args))
    path, args = compile_with_tensorrt(torch.nn.Identity(), tmp_path / "model.pt", [64, 64, 32], 4, "fp16")
    assert path == f"{tmp_path / 'model.pt'}.64x64x32.batch4.fp16"
    assert (args["precision"], args["dynamic_batchsize"]) == ("fp16", [1, 4, 4])
    assert args["timestamp"] == int((tmp_path / "model.pt").stat().st_mtime)
