# SPDX-License-Identifier: Apache-2.0
"""Measure what painting one lesion costs: floating-point operations, seconds, memory.

python scripts/benchmark.py --threads 2
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import monai
import torch
from monai.bundle import ConfigParser
from torch import Tensor
from tqdm import tqdm

from custom_components.bundle_configs import bundle_root, check_overrides, config_files
from custom_components.conditioners import lesion_histogram
from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable, write_atomically
from lefusion_scripts.benchmark_published import measure_published
from lefusion_scripts.costs import count_flops, peak_memory_mb

RADIUS_VOXELS = 8


def read_config(bundle: str, overrides: Mapping[str, Any], overlays: Sequence[str] = ()) -> ConfigParser:
    """The bundle's inference configuration with ``overrides``, without progress bars and saved states."""
    path = bundle_root(bundle) / "configs" / "inference.json"
    if not path.is_file():
        raise InputError(f"bundle {bundle} has no configs/inference.json.")
    files = config_files(bundle_root(bundle), "inference", overlays)
    check_overrides(files, dict(overrides))
    parser = ConfigParser()
    parser.read_config(files)
    for key, value in overrides.items():
        parser[key] = value
    parser["inferer"] |= {"progress": False, "on_step": None}
    return parser


def synthetic_case(num_classes: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Noise and one ball, of the first class: inputs (1, 1 + num_classes, *size), histograms (1, ..., 16)."""
    axes = torch.meshgrid(*(torch.arange(length) - length // 2 for length in size), indexing="ij")
    image = torch.rand(*size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    masks = torch.zeros(num_classes, *size)
    masks[0] = sum(axis**2 for axis in axes) <= RADIUS_VOXELS**2
    histograms = torch.stack([lesion_histogram(image, mask) for mask in masks])
    return torch.cat([image[None], masks])[None], histograms[None]


@torch.no_grad()
def measure(
    bundle: str,
    overrides: Mapping[str, Any],
    size: Sequence[int],
    repeats: int,
    threads: int | None,
    overlays: Sequence[str] = (),
) -> dict[str, Any]:
    """All numbers. Meant for a process of its own, so that nothing else is in its memory."""
    if threads is not None:
        torch.set_num_threads(threads)
    parser = read_config(bundle, overrides, overlays)
    try:
        device = torch.device(parser.get_parsed_content("device"))
        network, inferer = (parser.get_parsed_content(key) for key in ("network_def", "inferer"))
        inputs, condition = synthetic_case(inferer.combiner.num_classes, size)
        image, masks = inferer.combiner.split(inputs)
        seen = inferer.network_input(inferer.combiner.decompose(image), image, masks)
        timestep = torch.tensor([inferer.timesteps[-1]])
        flops = count_flops(network, seen, timestep, context=condition)
    except Exception as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"cannot paint a crop of {tuple(size)} with these settings: {reason}") from error
    network = network.eval().to(device)
    inputs, condition, seen, timestep = (x.to(device) for x in (inputs, condition, seen, timestep))

    def forward() -> None:
        with torch.autocast(device.type, dtype=inferer.amp_dtype, enabled=inferer.amp_dtype is not None):
            network(seen, timestep, context=condition)

    def lesion() -> None:
        inferer(inputs, network, condition=condition, seeds=[0])

    def seconds(run: Callable[[], None]) -> float:
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    forwards = inferer.num_forwards * (1 if inferer.guidance_scale == 1 else 2)
    bar = tqdm(total=1 + repeats * (1 + forwards), desc="measuring", unit="forward", delay=1, leave=False)

    def advance(*_: Any) -> None:  # returns nothing: what a hook returns becomes the network's output
        bar.update()

    network.register_forward_hook(advance)
    seconds(forward)  # the first one also sets up what the others reuse
    times = [(seconds(forward), seconds(lesion)) for _ in range(repeats)]
    bar.close()
    per_lesion = (bar.n - 1) // repeats - 1
    forward_seconds, lesion_seconds = (statistics.median(column) for column in zip(*times, strict=True))
    state = network.state_dict().values()
    result = {
        "parameters_millions": sum(p.numel() for p in network.parameters()) / 1e6,
        "weights_mb": sum(tensor.numel() * tensor.element_size() for tensor in state) / 1e6,
        "gflop_per_forward": flops / 1e9,
        "forwards_per_lesion": per_lesion,
        "seconds_per_forward": forward_seconds,
        "seconds_per_lesion": lesion_seconds,
        "lesion_to_forwards": lesion_seconds / (per_lesion * forward_seconds),
        "peak_memory_mb": peak_memory_mb(),
    }
    if device.type == "cuda":
        result["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return result | {
        "size": list(size),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "monai": monai.__version__,
    }


def benchmark(
    bundle: str = "lefusion_lidc",
    size: Sequence[int] | None = None,
    repeats: int = 3,
    threads: int | None = None,
    num_inference_steps: int | None = None,
    json_output: str | None = None,
    overwrite: bool = False,
    network: str = "bundle",
    **overrides: Any,
) -> dict[str, Any]:
    """Paint one synthetic lesion with the bundle's inference settings and print what it costs.

    The lesion is a ball of 8 voxels radius in noise, the weights are random: neither changes the cost. Scans
    are neither read nor written. A fresh process does the work; its peak memory includes all libraries.

    Args:
        bundle: a bundle's name or folder.
        size: voxels of the crop, (X, Y, Z); the bundle's own by default.
        repeats: lesions painted; times are medians over them.
        threads: CPU threads; PyTorch's own choice by default.
        num_inference_steps: in place of the bundle's.
        json_output: file for the result.
        overwrite: replace an existing ``json_output``.
        network: bundle, or published: one forward of the published network at its full width and, in a checkout of
            the repository, of a plain transcription of the same operations, in turns; nothing is painted.
        **overrides: any other key of the bundle's ``configs/inference.json``, such as ``jump_n_sample`` or
            ``network_def#channels``.

    Returns:
        ``parameters_millions``, ``weights_mb``, ``gflop_per_forward`` (a multiply-add counts 2),
        ``forwards_per_lesion``, ``seconds_per_forward``, ``seconds_per_lesion``, ``lesion_to_forwards`` (a
        lesion's time over that of its forwards), ``peak_memory_mb`` (resident), ``peak_gpu_memory_mb`` (on a
        GPU only), ``size``, ``threads``, ``device``, ``torch``, ``monai``. MB are 10^6 bytes. For the published
        network see :func:`~lefusion_scripts.benchmark_published.measure_published`.

    Raises:
        InputError: for a bundle without inference configuration, an unknown key, settings that do not work
            with the size, numbers below 1, or an existing ``json_output`` without ``overwrite``.
    """
    if size is None:
        size = read_config(bundle, {}).get("spatial_size")
    if not isinstance(size, Sequence) or len(size) != 3:
        raise InputError(f"size must be three numbers of voxels, got {size!r}.")
    for name, value in (("size", min(size)), ("repeats", repeats), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if json_output is not None:
        if Path(json_output).exists() and not as_flag(overwrite, "overwrite"):
            raise InputError(f"json_output {json_output} exists: pass overwrite, or another file.")
        check_writable(Path(json_output).parent)
    if num_inference_steps is not None:
        overrides["num_inference_steps"] = num_inference_steps
    if network not in ("bundle", "published"):
        raise InputError(f"network must be bundle or published, got {network!r}.")
    if network == "published":
        if overrides:
            raise InputError(f"network published is measured alone, without {next(iter(overrides))!r}.")
        task = (measure_published, size, repeats, threads)
    else:
        read_config(bundle, overrides)  # finds most mistakes at once
        task = (measure, bundle, overrides, size, repeats, threads)

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(*task).result()
    for key, value in result.items():
        print(f"{key:<26}{f'{value:.4g}' if isinstance(value, float) else value}")
    if json_output is not None:
        write_atomically(json_output, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))
    return result


if __name__ == "__main__":
    import fire

    from custom_components.errors import install_excepthook

    install_excepthook()
    fire.Fire(benchmark, serialize=lambda result: None)
