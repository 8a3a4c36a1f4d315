"""A bundle whose network is loaded once and then serves one request after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from custom_components.bundle_configs import bundle_root
from custom_components.synthesis.engines import BundleEngine

from .weights import WeightsFolder

__all__ = ["LoadedBundle"]


class LoadedBundle:
    """Hands out a bundle's engine with the weights that a request asks for.

    Args:
        bundle: name or folder.
        weights: those trained here.
        prepare: called with an engine once its network is loaded.

    Attributes:
        config: an engine for what the config says; its network is never loaded.
        prepared: what ``prepare`` returned for the engine that was handed out last.
    """

    def __init__(
        self,
        bundle: str | Path,
        weights: WeightsFolder,
        prepare: Callable[[BundleEngine], Any] = lambda engine: None,
    ) -> None:
        self.root, self.weights, self.prepare = bundle_root(bundle), weights, prepare
        self.config, self.prepared = BundleEngine(self.root), None
        self._engine: BundleEngine | None = None
        self._key: tuple[Path | None, float] | None = None

    def engine(self, request: Mapping[str, Any]) -> BundleEngine:
        """The engine, its network loaded. The last weights asked for stay in memory.

        Raises:
            InputError: for unknown weights, or such as do not fit the network.
        """
        path = self.weights.chosen(request)
        key = path, 0.0 if path is None else path.stat().st_mtime
        if self._engine is None or key != self._key:
            engine = BundleEngine(self.root, overrides={} if path is None else {"weights": str(path)})
            engine.load_network()
            self.prepared = self.prepare(engine)
            self._engine, self._key = engine, key
        return self._engine
