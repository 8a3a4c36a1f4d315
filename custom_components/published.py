"""Reading the published LeFusion checkpoints: which network a file holds, and its weights under this project's names.

A published file is a dictionary ``{"step", "model", "ema", "scaler"}`` whose ``model`` and ``ema`` (the averaged
weights) hold the tables of the noise schedule beside the network's tensors, which are called ``denoise_fn.NAME``, or
``denoise_fn.module.NAME`` after a training on several GPUs.

Axes: the published arrays are (D, H, W), slices first. With ``through_plane_axis`` 2 this project's X and Y take the
places of H and W, in this order, and Z that of D; nothing is transposed. The kernels and the attention within a slice
are not symmetric in H and W, so a transposed plane gives another output; which of X and Y was H in the published
training data is not part of a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .networks import FactorisedUNet
from .schedules import cosine_betas
from .weights import load_state, read_tensors

__all__ = ["PublishedCheckpoint", "own_name", "read_published"]


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a published file holds.

    Attributes:
        network: with the file's weights, in evaluation mode.
        settings: the arguments of :class:`~custom_components.networks.FactorisedUNet` that make such a network.
        num_train_timesteps: T of the noise schedule in the file; None where the file holds none.
        step: training steps made, None where the file does not say.
    """

    network: FactorisedUNet
    settings: dict[str, Any]
    num_train_timesteps: int | None
    step: int | None


def own_name(name: str) -> str:
    """A published tensor's name without the prefixes of its wrappers and without the wrappers' ``fn``.

    >>> own_name("denoise_fn.module.mid_spatial_attn.fn.fn.fn.to_qkv.weight")
    'mid_spatial_attn.to_qkv.weight'
    """
    return re.sub(r"^(module\.|denoise_fn\.)+|\.fn(?=\.)", "", name)


def read_published(path: str | Path, weights: str = "ema", through_plane_axis: int = 2) -> PublishedCheckpoint:
    """The network of a published file, built from the shapes of its tensors, and tried on a small input.

    Args:
        path: the file; no code in it is run.
        weights: ``ema`` or ``model``.
        through_plane_axis: of the network's input, see :class:`~custom_components.networks.FactorisedUNet`.

    Raises:
        InputError: for an unreadable file, one without these weights or with those of another network, weights that
            are not finite, or a noise schedule other than the published cosine.
    """
    if weights not in ("ema", "model"):
        raise InputError(f"weights must be ema or model, got {weights!r}.")
    content = read_tensors(path)
    tensors = content.get(weights) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise InputError(f"{path} is no published LeFusion checkpoint: it holds no weights {weights!r}.")
    if sum(value.numel() for value in tensors.values()) > Path(str(path)).stat().st_size:
        raise InputError(f"{path} is damaged: its tensors claim more values than the file has bytes.")
    state = {own_name(name): value for name, value in tensors.items() if "denoise_fn." in name}
    unsound = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if unsound:
        raise InputError(f"the weights {weights!r} in {path} are damaged: {unsound[0]!r} holds NaN or infinite values.")
    try:
        settings = infer_settings(state) | {"through_plane_axis": through_plane_axis}
        with torch.device("meta"):  # costs nothing, whatever the sizes in a damaged file
            network = FactorisedUNet(**settings)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{path} is no published LeFusion checkpoint: {_reason(error)}.") from error
    load_state(network, {name: value.to(torch.float32) for name, value in state.items()}, path)
    check_forward(network, settings, path)
    step = content.get("step")
    return PublishedCheckpoint(
        network, settings, check_schedule(tensors, path), int(step) if isinstance(step, int) else None
    )


def _reason(error: Exception) -> str:
    return f"it lacks the tensor {error}" if isinstance(error, KeyError) else "its tensors have unexpected shapes"


def infer_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of FactorisedUNet that fit a state dict; KeyError or IndexError where none do."""
    width, in_channels = state["init_conv.weight"].shape[:2]
    depth = len({name.split(".")[1] for name in state if name.startswith("downs.")})
    channels = [state[f"downs.{k}.0.block1.proj.weight"].shape[0] for k in range(depth)]
    buckets, heads = state["time_rel_pos_bias.relative_attention_bias.weight"].shape
    null = state.get("null_cond_emb")
    return {
        "in_channels": in_channels,
        "out_channels": state["final_conv.1.weight"].shape[0],
        "width": width,
        "multipliers": [count // width for count in channels],
        "condition_dim": 0 if null is None else null.shape[1],
        "num_heads": heads,
        "head_dim": state["init_temporal_attn.to_out.weight"].shape[1] // heads,
        "num_buckets": buckets,
    }


@torch.no_grad()
def check_forward(network: FactorisedUNet, settings: Mapping[str, Any], path: str | Path) -> None:
    """Raises InputError where the network's answer to noise is not finite."""
    size = [2 * network.divisor] * 3
    x = torch.randn(1, settings["in_channels"], *size, generator=torch.Generator().manual_seed(0))
    if not torch.isfinite(network(x, torch.tensor([1]))).all():
        raise InputError(f"the weights in {path} give NaN or infinite values.")


def check_schedule(tensors: Mapping[str, Tensor], path: str | Path) -> int | None:
    """T of the noise schedule beside the weights; InputError where it is not the published cosine."""
    betas = next((value for name, value in tensors.items() if name.removeprefix("module.") == "betas"), None)
    if betas is None:
        return None
    if betas.ndim != 1 or not len(betas) or (betas.double() - cosine_betas(len(betas))).abs().max() > 1e-4:
        raise InputError(f"{path} was trained with another noise schedule than the cosine with betas up to 0.9999.")
    return len(betas)
