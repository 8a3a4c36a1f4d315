"""A bundle's network as a TorchScript, ONNX or exported-program file, run and compared before it is kept."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import monai
import torch

from custom_components.bundle_configs import as_overlays, as_overrides, config_files
from custom_components.errors import InputError, as_flag, first_line
from custom_components.files import check_writable, write_atomically
from custom_components.network_export import (
    FORMATS,
    Comparison,
    ExportedNetwork,
    compare,
    describe_network,
    example_inputs,
    format_of,
    other_size,
)
from custom_components.synthesis.engines import BundleEngine

__all__ = ["export_network", "export_onnx", "export_pt2", "export_torchscript", "network_record"]

# Keys of the configs that a network means something else with; a file remembers those that its bundle has.
SETTINGS = ("context", "prediction_type", "num_train_timesteps", "snr_shift")


def export_torchscript(
    output: str,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    spatial_size: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Write a bundle's network as a traced TorchScript file, for torch.jit.load in Python and C++.

    The file is run on two sizes before it is kept, the bundle's crop and a larger one, and compared with the network.

    Args:
        output: file to write, ending in .ts.
        bundle: a bundle's name or folder.
        config: overlay(s), see ``lefusion run``.
        spatial_size: the first size that is tried, voxels; the bundle's crop by default. The file takes others too.
        tolerance: largest difference allowed, in units of the output's largest value.
        overwrite: replace an existing file.
        overrides: any key of the bundle's inference config, e.g. --weights runs/mine/checkpoints/model.pt, or --device
            cuda:0 for a file that runs there (cpu by default).
    """
    export_network("torchscript", output, bundle, config, spatial_size, tolerance, overwrite, **overrides)


def export_onnx(
    output: str,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    spatial_size: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Write a bundle's network as an ONNX file, for ONNX Runtime and others: ``pip install 'lefusion-monai[export]'``.

    Args:
        output: file to write, ending in .onnx.
        bundle, config, spatial_size, tolerance, overwrite, overrides: see ``lefusion export torchscript``.
    """
    export_network("onnx", output, bundle, config, spatial_size, tolerance, overwrite, **overrides)


def export_pt2(
    output: str,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    spatial_size: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Write a bundle's network as PyTorch's exported program, for torch.export.load.

    Args:
        output: file to write, ending in .pt2.
        bundle, config, spatial_size, tolerance, overwrite, overrides: see ``lefusion export torchscript``.
    """
    export_network("pt2", output, bundle, config, spatial_size, tolerance, overwrite, **overrides)


def export_network(
    format: str,
    output: str,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    spatial_size: Sequence[int] | None = None,
    tolerance: float = 1e-4,
    overwrite: bool = False,
    **overrides: Any,
) -> list[Comparison]:
    """Writes a network in a format of :data:`~custom_components.network_export.FORMATS`; see the commands.

    Returns:
        The comparison with the network on each of the two sizes.

    Raises:
        InputError: for an unknown format, another suffix, an existing file, a package that is missing, whatever the
            bundle finds wrong, and where the file's output differs from the network's by more than the tolerance.
    """
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.")
    chosen, path = FORMATS[format], Path(str(output))
    if format_of(path) is not chosen:
        raise InputError(f"output {path} must end in {chosen.suffix} for {format}.")
    if not _is_positive(tolerance):
        raise InputError(f"tolerance must be a number above 0, got {tolerance!r}.")
    if path.exists() and not as_flag(overwrite, "overwrite"):
        raise InputError(f"{path} exists; --overwrite true replaces it.")
    chosen.require((*chosen.to_write, *chosen.to_run))
    check_writable(path.parent)
    engine = BundleEngine(bundle, as_overlays(config), {"device": "cpu", **as_overrides(overrides)})
    device = torch.device(engine.value("device"))
    network = engine.value("network").eval().requires_grad_(False)
    record = network_record(engine, network, config, spatial_size) | {"format": format, "device": str(device)}
    # Recorded with other sizes than those that it is compared on, so that a size that was baked in is noticed.
    small = [2 * divisor for divisor in record["spatial_divisor"]]
    inputs = [tensor.to(device) for tensor in example_inputs(record, small, batch=2)]
    comparisons = []

    def write(temporary: Path) -> None:
        try:
            with torch.no_grad(), _quiet():
                chosen.write(network, inputs, record, temporary)
        except Exception as error:
            raise InputError(f"the network of {bundle} cannot be written as {format}: {first_line(error)}") from error
        exported = ExportedNetwork(temporary, device)
        for size, batch in ((record["spatial_size"], 1), (other_size(record), 2)):
            found = compare(network, exported, record, size, batch, device)
            comparisons.append(found)
            print(
                f"{'x'.join(map(str, found.shape))}: largest difference {found.difference:.1e}, "
                f"{found.relative:.1e} of the largest output {found.largest:.2f}"
            )
            if found.relative > tolerance:
                raise InputError(
                    f"{format} differs from the network by {found.relative:.1e} of its largest output, more than the "
                    f"tolerance {tolerance:.1e}; nothing was written."
                )

    write_atomically(path, write)
    print(f"{path}  {path.stat().st_size / 2**20:.1f} MB")
    return comparisons


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings: of sizes that might be baked in, which the comparison would find, of packages
    that nothing here needs, and of what the libraries below use of each other."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        registry.setLevel(level)


def network_record(
    engine: BundleEngine, network: torch.nn.Module, config: str | Sequence[str], spatial_size: Sequence[int] | None
) -> dict[str, Any]:
    """What a file tells of itself: its inputs and outputs, and what it was made from."""
    metadata = json.loads((engine.root / "configs" / "metadata.json").read_text())
    size = engine.value("spatial_size") if spatial_size is None else spatial_size
    if size is None:
        raise InputError(f"the configs of {engine.root.name} have no spatial_size: give --spatial_size [X,Y,Z].")
    if not isinstance(size, Sequence) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        raise InputError(f"spatial_size must be three whole numbers of voxels, [X,Y,Z], got {size!r}.")
    channels = {key: engine.value(f"network_def#{key}") for key in ("in_channels", "out_channels")}
    described = describe_network(network, metadata["network_data_format"], size, **channels)
    steps = engine.value("num_train_timesteps")
    for entry in described["inputs"]:
        if entry["name"] == "timesteps" and steps is not None:
            entry["value_range"] = [0, steps - 1]
    return {
        "bundle": metadata["name"],
        "version": metadata["version"],
        "configs": [Path(file).stem for file in config_files(engine.root, "inference", config)],
        "settings": {key: engine.value(key) for key in SETTINGS if engine.value(key) is not None},
        "weights": engine.weights(),
        **described,
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__,
        **{key: metadata[key] for key in ("copyright", "intended_use") if key in metadata},
    }
