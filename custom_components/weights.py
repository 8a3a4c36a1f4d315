"""Loading weights strictly, with an error that names what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.networks.utils import copy_model_state
from torch import nn

from .errors import InputError, first_line

__all__ = ["initialise", "load_state", "load_weights", "read_tensors"]


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Loads a state dict (tensors only) strictly into ``network`` and returns it in evaluation mode.

    Raises:
        InputError: where the file is missing, unreadable, or its first key or shape that differs does not fit.
    """
    return load_state(network, read_state_dict(path), path)


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> nn.Module:
    """:func:`load_weights` for a state dict that was read from ``path``.

    A network on the meta device, which has no memory of its own, takes the tensors themselves.
    """
    wanted = network.state_dict()
    for key in [*wanted, *state]:
        if key not in state:
            raise InputError(f"weights file {path} lacks the network's key {key!r}.")
        if key not in wanted:
            raise InputError(f"weights file {path} has the key {key!r}, which the network lacks.")
        if not isinstance(state[key], torch.Tensor):
            raise InputError(f"weights file {path}: {key!r} is no tensor but a {type(state[key]).__name__}.")
        if wanted[key].shape != state[key].shape:
            raise InputError(
                f"weights file {path}: {key!r} has shape {tuple(state[key].shape)}, "
                f"the network needs {tuple(wanted[key].shape)}."
            )
    network.load_state_dict(state, assign=any(parameter.is_meta for parameter in network.parameters()))
    return network.eval()


def read_tensors(path: str | Path) -> object:
    """What a file saved by PyTorch holds, read without running any code in it; InputError where it cannot be read."""
    path = Path(str(path))
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose own message advises to run the file's code
        raise InputError(f"cannot read weights from {path}: it is no PyTorch file, or not of tensors alone.") from error
    except Exception as error:
        raise InputError(f"cannot read weights from {path}: {first_line(error)}") from error


def read_state_dict(path: str | Path) -> Mapping[str, torch.Tensor]:
    """The state dict of a weights file, tensors only; InputError where it cannot be read."""
    state = read_tensors(path)
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping):
        raise InputError(f"weights file {path} holds a {type(state).__name__}, not a state dict.")
    return state


def initialise(network: nn.Module, path: str | Path | None = None) -> nn.Module:
    """Starts a training from earlier weights: copies every tensor of the file that fits the network by name and shape.

    Args:
        network: what will be trained; parts that the file lacks keep their own initialisation.
        path: a state dict (tensors only); None leaves the network as it is.

    Raises:
        InputError: where the file is missing or unreadable, or nothing in it fits.
    """
    if path is None:
        return network
    fitting, unchanged = copy_model_state(network, read_state_dict(path), inplace=True)[1:]
    if not fitting:
        raise InputError(f"nothing in weights file {path} fits the network.")
    print(f"initialised {len(fitting)} tensors from {path}; {len(unchanged)} keep their own initialisation")
    return network
