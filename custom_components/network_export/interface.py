"""What goes into a network and what comes out, put together from a bundle's metadata, its config and the network."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError

__all__ = ["describe_network", "example_inputs", "other_size"]

LARGEST_DIVISOR = 64  # voxels; what no network's own check of sizes accepts up to here counts as fixed


def describe_network(
    network: nn.Module,
    data_format: Mapping[str, Any],
    spatial_size: Sequence[int],
    in_channels: int | None = None,
    out_channels: int | None = None,
) -> dict[str, Any]:
    """Inputs and outputs of a network as entries for the record of an exported file.

    The names are the metadata's: ``image`` first, then those inputs that the network's ``forward`` takes by that name.
    Overlays of a bundle change the number of channels, which the metadata cannot know: ``in_channels`` goes before it,
    and so does ``out_channels`` for the output and for an input that has a row for each output channel (histograms).

    Args:
        network: called as ``network(image, **others)``.
        data_format: the metadata's ``network_data_format``.
        spatial_size: voxels of the crop that the bundle uses.
        in_channels, out_channels: of the configured network, where they are known.

    Returns:
        ``inputs`` and ``outputs``: lists of ``name, shape, dtype, value_range, meaning``; ``spatial_divisor``: voxels
        that each axis must be a multiple of; ``spatial_size``.

    Raises:
        InputError: where the metadata lacks the image or the prediction, or the network does not take the crop.
    """
    inputs, outputs = data_format.get("inputs", {}), data_format.get("outputs", {})
    if "image" not in inputs or "pred" not in outputs:
        raise InputError("the metadata's network_data_format lacks inputs#image or outputs#pred.")
    divisor = _divisor(network, inputs["image"]["spatial_shape"], spatial_size)
    rows = outputs["pred"]["num_channels"]
    out_channels = rows if out_channels is None else out_channels
    takes = inspect.signature(network.forward).parameters
    described = [_entry("image", inputs["image"], in_channels, divisor)]
    for name, entry in inputs.items():
        if name in takes and name != "image":
            described.append(_entry(name, entry, out_channels if entry["num_channels"] == rows else None, None))
    return {
        "inputs": described,
        "outputs": [_entry("pred", outputs["pred"], out_channels, divisor)],
        "spatial_divisor": divisor,
        "spatial_size": [int(size) for size in spatial_size],
    }


def _divisor(network: nn.Module, pattern: Sequence[Any], spatial_size: Sequence[int]) -> list[int]:
    """The smallest size of each axis that the network's own check accepts, or else what the metadata says."""
    check = getattr(network, "check_size", None)
    if check is None:
        return [_divisor_of(entry, int(size)) for entry, size in zip(pattern, spatial_size, strict=True)]
    check(spatial_size)

    def accepts(axis: int, size: int) -> bool:
        try:
            check([size if k == axis else own for k, own in enumerate(spatial_size)])
        except InputError:
            return False
        return True

    return [
        next((size for size in range(1, LARGEST_DIVISOR + 1) if accepts(axis, size)), int(own))
        for axis, own in enumerate(spatial_size)
    ]


def _divisor_of(pattern: Any, size: int) -> int:
    """Of the metadata's ``8*n``: 8. A plain number is a size and tells nothing: the power of two in the crop's size."""
    if isinstance(pattern, str):
        number = re.search(r"\d+", pattern)
        return int(number.group()) if number else 1
    return min(size & -size, LARGEST_DIVISOR)


def _entry(name: str, entry: Mapping[str, Any], channels: int | None, divisor: Sequence[int] | None) -> dict[str, Any]:
    """An entry of the metadata with its shape written out: N, the channels, then ``8*n`` or numbers."""
    count = int(entry["num_channels"] if channels is None else channels)
    if divisor is not None:
        shape = ["N", count, *("n" if d == 1 else f"{d}*n" for d in divisor)]
    else:
        shape = ["N", count, *entry["spatial_shape"]] if entry["spatial_shape"] else ["N"]
    found = {"name": name, "shape": shape, "dtype": entry["dtype"], "value_range": entry["value_range"]}
    if len(entry.get("channel_def", {})) == count:
        found["meaning"] = list(entry["channel_def"].values())
    return found | {"format": entry["format"]}


def example_inputs(
    described: Mapping[str, Any], spatial_size: Sequence[int], batch: int, seed: int = 0
) -> tuple[Tensor, ...]:
    """Inputs drawn within their value ranges, on the CPU, the same for the same seed.

    Whole numbers (timesteps) spread evenly over their range. Histograms sum to 1, and the last one of several samples
    is the null condition, all zeros.

    Args:
        described: what :func:`describe_network` gives.
        spatial_size: voxels of the image.
        batch: number of samples.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for entry in described["inputs"]:
        low, high = entry["value_range"]
        dtype = getattr(torch, entry["dtype"])
        if not dtype.is_floating_point:
            steps = torch.linspace(low, high, batch) if batch > 1 else torch.tensor([(low + high) / 2])
            made.append(steps.to(dtype))
            continue
        own = spatial_size if entry["name"] == "image" else entry["shape"][2:]
        values = low + (high - low) * torch.rand(batch, entry["shape"][1], *own, generator=generator)
        if entry["format"] == "histogram":
            values = values / values.sum(dim=-1, keepdim=True)
            values[1:][-1:] = 0
        made.append(values.to(dtype))
    return tuple(made)


def other_size(described: Mapping[str, Any]) -> list[int]:
    """A size other than the crop's on every axis: one divisor larger."""
    return [size + d for size, d in zip(described["spatial_size"], described["spatial_divisor"], strict=True)]
