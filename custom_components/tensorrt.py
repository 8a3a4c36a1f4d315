"""A network compiled for NVIDIA GPUs by MONAI's ``trt_compile``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from monai.networks import trt_compile
from torch import nn

from .errors import InputError

__all__ = ["compile_with_tensorrt"]

PACKAGES = {"tensorrt": "tensorrt", "polygraphy": "polygraphy", "cuda": "cuda-python", "onnx": "onnx"}


def compile_with_tensorrt(
    network: nn.Module,
    weights: str | Path,
    spatial_size: Sequence[int],
    batch_size: int = 1,
    precision: str = "fp32",
) -> nn.Module:
    """Lets TensorRT run the network for crops of one size, in batches of 1 to ``batch_size``.

    The engine is built at the first call, which takes minutes, and kept beside the weights under a name that tells
    size, batch and precision; it is built anew where the weights are newer. MONAI's ``trt_compile`` alone would go
    on without TensorRT and say nothing.

    Args:
        network: on a CUDA device, its weights loaded.
        weights: the file that they came from.
        spatial_size: voxels of the crop.
        batch_size: largest batch.
        precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.

    Raises:
        InputError: without a CUDA device or one of the packages, for another precision, and where the network lies
            elsewhere than on a CUDA device.
    """
    if precision not in ("fp32", "tf32", "fp16", "bf16"):
        raise InputError(f"precision must be fp32, tf32, fp16 or bf16, got {precision!r}.")
    if not torch.cuda.is_available():
        raise InputError("inference_trt needs an NVIDIA GPU with CUDA, and PyTorch finds none here.")
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise InputError(f"inference_trt needs packages that are not installed: pip install {' '.join(missing)}.")
    if any(parameter.device.type != "cuda" for parameter in network.parameters()):
        raise InputError("inference_trt needs device to be a CUDA device, for example --device cuda:0.")
    size = "x".join(str(int(length)) for length in spatial_size)
    settings = {
        "precision": precision,
        "dynamic_batchsize": [1, int(batch_size), int(batch_size)],
        "timestamp": int(Path(weights).stat().st_mtime),
    }
    return trt_compile(network, f"{weights}.{size}.batch{int(batch_size)}.{precision}", args=settings)
