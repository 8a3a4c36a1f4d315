# SPDX-License-Identifier: Apache-2.0
"""Measure the published network against a plain transcription of the same operations.

lefusion benchmark --network published
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from custom_components.networks import FactorisedUNet
from lefusion_scripts.costs import count_flops, peak_memory_mb

# The yardstick is no part of the product: the tests of the repository hold it.
YARDSTICK = Path(__file__).resolve().parent.parent / "tests" / "plain_factorised_unet.py"


class PlainNetwork(nn.Module):
    """The yardstick with a network's weights and call."""

    def __init__(self, network: FactorisedUNet, plain_forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.network = network
        self.plain_forward = plain_forward

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        axis = 2 + self.network.through_plane_axis
        y = self.plain_forward(self.network.state_dict(), x.movedim(axis, 2), timesteps, context.flatten(1))
        return y.movedim(2, axis)


def load_yardstick() -> Callable[..., Tensor] | None:
    """The plain transcription, or None outside a checkout of the repository."""
    if not YARDSTICK.is_file():
        return None
    spec = importlib.util.spec_from_file_location("plain_factorised_unet", YARDSTICK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plain_forward


@torch.no_grad()
def measure_published(size: Sequence[int], repeats: int, threads: int | None, **settings: Any) -> dict[str, Any]:
    """Times forwards of the published network, batch 1, random weights, on a CPU.

    Args:
        size: voxels of the crop, (X, Y, Z).
        repeats: forwards of each path after one to warm up, in turns, so that both meet the same machine.
        threads: CPU threads; PyTorch's own choice by default.
        settings: arguments of FactorisedUNet other than the published ones.

    Returns:
        ``parameters_millions``, ``gflop_per_forward``, ``seconds_per_forward`` (median) and, with the yardstick, its
        ``plain_gflop_per_forward`` and ``plain_seconds_per_forward``, ``plain_to_network`` (median ratio of the
        turns) and ``max_abs_difference`` of the outputs; ``peak_memory_mb``, ``size``, ``threads``, ``torch``.

    Raises:
        InputError: for a size that the network cannot halve.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = FactorisedUNet(**settings).eval()
    network.check_size(size)
    x, timestep, context = torch.randn(1, 1, *size), torch.tensor([150]), torch.rand(1, 1, 16).softmax(dim=-1)
    plain_forward = load_yardstick()
    paths = {"": network}
    if plain_forward is None:
        print(f"no plain transcription to compare with: there is no {YARDSTICK}, which comes with the repository")
    else:
        paths["plain_"] = PlainNetwork(network, plain_forward)
    result: dict[str, Any] = {"parameters_millions": sum(p.numel() for p in network.parameters()) / 1e6}
    times: dict[str, list[float]] = {name: [] for name in paths}
    outputs = {}
    with tqdm(total=(1 + repeats) * len(paths), desc="measuring", unit="forward", delay=1, leave=False) as bar:
        for _ in range(1 + repeats):
            for name, path in paths.items():
                start = time.perf_counter()
                outputs[name] = path(x, timestep, context)
                times[name].append(time.perf_counter() - start)
                bar.update()
    for name, path in paths.items():
        result[f"{name}gflop_per_forward"] = count_flops(path, x, timestep, context=context) / 1e9
        result[f"{name}seconds_per_forward"] = statistics.median(times[name][1:])
    if len(paths) > 1:
        turns = zip(times["plain_"][1:], times[""][1:], strict=True)
        result["plain_to_network"] = statistics.median(plain / own for plain, own in turns)
        result["max_abs_difference"] = (outputs["plain_"] - outputs[""]).abs().max().item()
    return result | {
        "peak_memory_mb": peak_memory_mb(),
        "size": list(size),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
