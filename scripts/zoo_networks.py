"""The model zoo's checks of a bundle's network: what its metadata says of it, and whether TorchScript takes it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import verify_net_in_out

from custom_components.errors import InputError, first_line
from custom_components.network_export import example_inputs
from custom_components.synthesis.engines import BundleEngine

from .export_network import export_network, network_record
from .zoo_packing import find_bundles

__all__ = ["check_networks", "verify_network"]


def check_networks(bundle: str | Sequence[str] | None = None) -> None:
    """Check the networks of bundles as the model zoo does, with the inputs that a diffusion network needs.

    MONAI's ``verify_net_in_out`` compares channels and types with the metadata; its command cannot be given timesteps
    and context, its Python function can. The TorchScript check is a traced file, run on two sizes: MONAI's
    ``ckpt_export`` scripts, which its DiffusionModelUNet cannot be.

    Args:
        bundle: a bundle's name or folder, or several separated by commas; all by default.

    Raises:
        InputError: for the first network that is not as its metadata says, or that TorchScript does not take.
    """
    for root in find_bundles(bundle):
        verify_network(root)
        print(f"{root.name}: inputs and output are as its metadata says")
        small = [2 * divisor for divisor in _record(root)["spatial_divisor"]]
        with tempfile.TemporaryDirectory() as folder:
            export_network("torchscript", str(Path(folder) / "network.ts"), str(root), spatial_size=small)
        print(f"{root.name}: TorchScript gives what the network gives")


def verify_network(root: Path) -> None:
    """MONAI's ``verify_net_in_out`` for a bundle.

    Raises:
        InputError: where the network does not take or give what the metadata says.
    """
    record = _record(root)
    names = [entry["name"] for entry in record["inputs"][1:]]
    others = dict(zip(names, example_inputs(record, record["spatial_size"], batch=1)[1:], strict=True))
    try:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(root / "configs" / "metadata.json"),
            config_file=str(root / "configs" / "inference.json"),
            device="cpu",
            n=2,
            extra_forward_args=others,
        )
    except Exception as error:  # a network that is given other channels than it has raises whatever PyTorch does
        raise InputError(f"the network of {root.name} is not as its metadata says: {first_line(error)}") from error


def _record(root: Path) -> dict:
    engine = BundleEngine(root, (), {"device": "cpu"})
    return network_record(engine, engine.value("network_def"), (), None)
