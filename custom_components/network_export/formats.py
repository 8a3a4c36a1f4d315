"""The file formats: how a network is written in each, and how its file is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from monai.networks.utils import convert_to_torchscript
from torch import Tensor, nn

from ..errors import InputError, first_line

__all__ = ["FORMATS", "Format", "format_of"]

RECORD = "metadata.json"  # where MONAI's own TorchScript files keep theirs
Run = Callable[..., Tensor]


def write_torchscript(network: nn.Module, inputs: Sequence[Tensor], record: Mapping[str, Any], path: Path) -> None:
    convert_to_torchscript(
        network, str(path), {RECORD: json.dumps(record)}, inputs=tuple(inputs), use_trace=True, check_trace=False
    )


def load_torchscript(path: Path, device: torch.device) -> tuple[str, Run]:
    found = {RECORD: ""}
    network = torch.jit.load(str(path), map_location=device, _extra_files=found)
    return _text(found[RECORD]), network.eval()


def exported_program(network: nn.Module, inputs: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """PyTorch's exported program, whose batch (and the image's axes) may have any length."""
    any_length = torch.export.Dim.DYNAMIC
    axes = [dict.fromkeys([0, *range(2, inputs[0].ndim)], any_length), *({0: any_length} for _ in inputs[1:])]
    return torch.export.export(network, tuple(inputs), dynamic_shapes=tuple(axes))


def write_pt2(network: nn.Module, inputs: Sequence[Tensor], record: Mapping[str, Any], path: Path) -> None:
    torch.export.save(exported_program(network, inputs), str(path), extra_files={RECORD: json.dumps(record)})


def load_pt2(path: Path, device: torch.device) -> tuple[str, Run]:
    found = {RECORD: ""}
    network = torch.export.load(str(path), extra_files=found).module()
    return _text(found[RECORD]), lambda *inputs: network(*inputs)  # as a submodule it would refuse eval()


def write_onnx(network: nn.Module, inputs: Sequence[Tensor], record: Mapping[str, Any], path: Path) -> None:
    program = torch.onnx.export(
        exported_program(network, inputs),
        input_names=[entry["name"] for entry in record["inputs"]],
        output_names=[entry["name"] for entry in record["outputs"]],
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props[RECORD] = json.dumps(record)
    program.save(str(path), external_data=False)


def load_onnx(path: Path, device: torch.device) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    providers = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise InputError(f"{path} on {device} needs the package onnxruntime-gpu in place of onnxruntime.")
        providers = [("CUDAExecutionProvider", {"device_id": device.index or 0}), *providers]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        feed = {name: tensor.cpu().numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, feed)[0]).to(inputs[0].device)

    return session.get_modelmeta().custom_metadata_map.get(RECORD, ""), run


def _text(stored: str | bytes) -> str:
    return stored.decode() if isinstance(stored, bytes) else stored


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: as in ``lefusion export NAME``.
        suffix: what its files end in.
        to_write, to_run: packages beyond PyTorch that it takes.
        write: ``write(network, inputs, record, path)``, the network recorded with these inputs.
        load: ``load(path, device)`` gives the record as text and the network as a function of its inputs.
        bound_to_device: whether a file holds the device that it was recorded on.
    """

    name: str
    suffix: str
    write: Callable[[nn.Module, Sequence[Tensor], Mapping[str, Any], Path], None]
    load: Callable[[Path, torch.device], tuple[str, Run]]
    to_write: tuple[str, ...] = ()
    to_run: tuple[str, ...] = ()
    bound_to_device: bool = True

    def require(self, packages: Sequence[str]) -> None:
        """Raises InputError where one of the packages is not installed."""
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise InputError(
                f"{self.name} needs {' and '.join(missing)}: pip install 'lefusion-monai[export]' brings all of it."
            )

    def open(self, path: Path, device: torch.device) -> tuple[dict[str, Any], Run]:
        """A file's record and network.

        Raises:
            InputError: where it is missing, cannot be read, or was not written by ``lefusion export``.
        """
        if not path.is_file():
            raise InputError(f"exported network {path} does not exist.")
        self.require(self.to_run)
        try:
            text, run = self.load(path, device)
        except InputError:
            raise
        except Exception as error:  # each library has its own
            raise InputError(f"cannot read {path} as {self.name}: {first_line(error)}") from error
        if not text:
            raise InputError(f"{path} holds no record of its inputs; lefusion export {self.name} writes one.")
        return json.loads(text), run


FORMATS = {
    entry.name: entry
    for entry in (
        Format("torchscript", ".ts", write_torchscript, load_torchscript),
        Format("onnx", ".onnx", write_onnx, load_onnx, ("onnx", "onnxscript"), ("onnxruntime",), bound_to_device=False),
        Format("pt2", ".pt2", write_pt2, load_pt2),
    )
}


def format_of(path: str | Path) -> Format:
    """The format that a file's name tells.

    Raises:
        InputError: for another suffix.
    """
    found = next((entry for entry in FORMATS.values() if entry.suffix == Path(path).suffix), None)
    if found is None:
        known = ", ".join(f"{entry.suffix} ({entry.name})" for entry in FORMATS.values())
        raise InputError(f"exported network {path} must end in one of {known}.")
    return found
