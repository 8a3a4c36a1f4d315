"""An exported file in the place of the network it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .formats import format_of

__all__ = ["ExportedNetwork"]


class ExportedNetwork(nn.Module):
    """Runs a file written by ``lefusion export`` with the call of the network that it was made from.

    It computes in float32, whatever autocast says around it.

    Args:
        path: a ``.ts``, ``.onnx`` or ``.pt2`` file.
        device: where to run it.
        expected: settings that the file must have been exported with, by their keys in the bundle's config; what the
            file was not told of is not compared.

    Raises:
        InputError: where the file is missing, cannot be read, needs a package that is not installed, is bound to
            another device, or was exported with other settings.
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device | str = "cpu",
        expected: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.path, device = Path(str(path)), torch.device(device)
        format = format_of(self.path)
        self.record, self.run = format.open(self.path, device)
        exported_on = torch.device(self.record["device"])
        if format.bound_to_device and exported_on.type != device.type:
            raise InputError(
                f"{self.path} was exported on {exported_on} and runs there alone; export it with --device {device}, "
                f"or run it with --device {exported_on}."
            )
        for key, value in (expected or {}).items():
            own = self.record["settings"].get(key, value)
            if own != value:
                raise InputError(
                    f"{self.path} was exported with {key} {own!r}, the configs say {value!r}; {self._advice()}"
                )

    def _advice(self) -> str:
        """What to do about configs that do not fit the file."""
        overlays = ",".join(self.record["configs"][1:])  # after the workflow's own
        return f"it is for bundle {self.record['bundle']} with --config {overlays + ',' if overlays else ''}exported."

    def check_size(self, spatial_size: Any) -> None:
        """Raises InputError where the network does not take that many voxels along its axes."""
        divisor = self.record["spatial_divisor"]
        if any(size < d or size % d for size, d in zip(spatial_size, divisor, strict=True)):
            raise InputError(f"{self.path} takes sizes that are multiples of {divisor}, got {list(spatial_size)}.")

    def forward(self, image: Tensor, *others: Tensor, **named: Tensor | None) -> Tensor:
        """As the network's own: the image, then the others in order or by name.

        A floating-point input that is not given is all zeros, which is the null condition.

        Raises:
            InputError: where the image has other channels, or a size that the network does not take.
        """
        entries = self.record["inputs"]
        if image.shape[1] != entries[0]["shape"][1]:
            raise InputError(
                f"{self.path} takes an image of {entries[0]['shape'][1]} channels, got {image.shape[1]}; "
                f"{self._advice()}"
            )
        self.check_size(image.shape[2:])
        given = dict(zip((entry["name"] for entry in entries[1:]), others, strict=False))
        given |= {name: tensor for name, tensor in named.items() if tensor is not None}
        inputs = [image]
        for entry in entries[1:]:
            dtype, shape = getattr(torch, entry["dtype"]), (len(image), *entry["shape"][1:])
            tensor = given.pop(entry["name"], None)
            if tensor is None and not dtype.is_floating_point:
                raise InputError(f"{self.path} needs the input {entry['name']}.")
            inputs.append(image.new_zeros(shape) if tensor is None else tensor.to(dtype).reshape(shape))
        if given:
            raise InputError(f"{self.path} has no input {next(iter(given))}.")
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            return self.run(*(tensor.contiguous() for tensor in inputs))
