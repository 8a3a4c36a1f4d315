"""Loading weights strictly, with an error that names what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from .errors import InputError

__all__ = ["load_weights"]


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Loads a state dict (tensors only) strictly into ``network`` and returns it in evaluation mode.

    Raises:
        InputError: where the file is missing, unreadable, or its first key or shape that differs does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"cannot read weights from {path}: {str(error).splitlines()[0]}") from error
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping):
        raise InputError(f"weights file {path} holds a {type(state).__name__}, not a state dict.")
    wanted = network.state_dict()
    for key in [*wanted, *state]:
        if key not in state:
            raise InputError(f"weights file {path} lacks the network's key {key!r}.")
        if key not in wanted:
            raise InputError(f"weights file {path} has the key {key!r}, which the network lacks.")
        if wanted[key].shape != state[key].shape:
            raise InputError(
                f"weights file {path}: {key!r} has shape {tuple(state[key].shape)}, "
                f"the network needs {tuple(wanted[key].shape)}."
            )
    network.load_state_dict(state)
    return network.eval()
