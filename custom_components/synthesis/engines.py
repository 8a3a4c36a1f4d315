"""A bundle's inference, its network loaded once and run for one group of cases after another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..bundle_configs import bundle_root, check_overrides, config_files
from ..errors import InputError, find_input_error
from ..files import file_hash
from ..labels import LesionLabels

__all__ = ["BundleEngine"]

# The organ that a painting bundle's lesions lie in, what finds it, and what draws masks for it.
SYNTHESIS_CONFIG = "synthesize.json"


class BundleEngine:
    """Reads a bundle's ``inference.json`` with overlays and runs its evaluator on lesions or masks given in memory.

    Args:
        bundle: its name or folder.
        overlays: see :func:`~custom_components.bundle_configs.config_files`.
        overrides: keys of the config and their values.
        device: where to run; None: as the config says.

    Raises:
        InputError: for an unknown bundle, overlay or key, and for weights that cannot be loaded.
    """

    def __init__(
        self,
        bundle: str | Path,
        overlays: Sequence[str] = (),
        overrides: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.root, overrides = bundle_root(bundle), dict(overrides or {})
        files = config_files(self.root, "inference", list(overlays))
        check_overrides(files, overrides)
        self.parser = ConfigParser()
        self.parser.read_config(files)
        self.parser.update({**overrides, "bundle_root": str(self.root), "progress": False})
        if device is not None:
            self.parser["device"] = device
        self.loaded: dict[str, Any] = {}

    def value(self, key: str, default: Any = None) -> Any:
        """What a key of the config stands for, and ``default`` where the config has no such key.

        Raises:
            InputError: what the component itself raised, which MONAI wraps.
        """
        if key not in self.parser:
            return default
        try:
            return self.parser.get_parsed_content(key)
        except RuntimeError as error:
            cause = find_input_error(error)
            if cause is None:
                raise
            raise cause from error

    def load(self, *keys: str) -> None:
        """Makes components once, for all groups: whatever is set in the config later, they stay."""
        for key in keys:
            if key not in self.loaded:
                self.loaded[key] = self.value(key)
        for key, component in self.loaded.items():
            self.parser[key] = component

    def load_network(self) -> None:
        """Builds the network, loads its weights and checks that it takes the configured crop.

        Raises:
            InputError: where the weights do not fit, or the network does not take the crop.
        """
        self.load("network_def", "network")
        self.loaded["network"].eval()
        self.loaded["network_def"].check_size(self.value("spatial_size"))

    @property
    def modality(self) -> str:
        """Of the images it paints into, as its metadata tells."""
        metadata = json.loads((self.root / "configs" / "metadata.json").read_text())
        return str(metadata.get("network_data_format", {}).get("inputs", {}).get("image", {}).get("modality", "n/a"))

    @property
    def labels(self) -> LesionLabels:
        """The meaning of its label maps."""
        return self.value("labels", LesionLabels())

    def evaluate(self, saver: Mapping[str, Any], run: bool = True, **held: Any) -> None:
        """Runs the evaluator with the config's own saver, changed by ``saver``.

        Args:
            saver: arguments of the saver, ``_target_`` among them, in place of the config's.
            run: whether the network is needed; otherwise the saver finishes every case by itself.
            held: objects that take the place of config keys (sequences as tuples, which MONAI leaves alone).
        """
        for key, component in held.items():
            self.parser[key] = component
        for key, argument in saver.items():
            self.parser[f"saver#{key}"] = argument
        try:
            made = self.value("saver")
            if not run:
                for numbers in made.cases.values():
                    made.finish(numbers)
            elif made.items:
                self.value("evaluator").run()
        finally:  # nothing of the group stays in memory
            for key in held:
                self.parser[key] = ()

    def weights(self) -> dict[str, str] | None:
        """Name and SHA-256 of the weights file; None where the config's method has none.

        Raises:
            InputError: where it does not exist.
        """
        if self.value("weights") is None:
            return None
        path = Path(str(self.value("weights")))
        if not path.is_file():
            raise InputError(f"weights file {path} does not exist.")
        return {"file": path.name, "sha256": file_hash(path)}

    def synthesis_settings(self) -> dict[str, Any]:
        """What the bundle says of synthesis: ``organ_name``, ``find_organ`` (a function or None), ``mask_config``
        (overlays of the mask bundle) and ``site_gaps`` (a file of the mask bundle's ``configs``, or None)."""
        settings = {"organ_name": "organ", "find_organ": None, "mask_config": [], "site_gaps": None}
        path = self.root / "configs" / SYNTHESIS_CONFIG
        if path.is_file():
            parser = ConfigParser()
            parser.read_config(str(path))
            settings |= parser.get_parsed_content()
        return settings
