"""The lung bundle run with a tiny network: its settings, weights, and fixtures that paint and count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, TINY_NETWORK, Output, infer, save_weights_of
from small_chest import save_case

from custom_components.networks import HistogramUNet

BUNDLE = BUNDLES / "lefusion_lidc"
TINY = {
    **{f"network_def#{key}": value for key, value in TINY_NETWORK.items()},
    "spatial_size": [16, 16, 16],
    "num_inference_steps": 2,
    "bundle_root": str(BUNDLE),
    "device": "cpu",
    "panel": False,
    "progress": False,
}


def save_tiny_weights(path: Path, **network: Any) -> Path:
    """Weights of this bundle's network made tiny."""
    return save_weights_of(BUNDLE, path, **network)


def run_workflow(config_file: str | Path | list[str] = BUNDLE / "configs" / "inference.json", **overrides: Any) -> None:
    """This bundle's inference, or other configs, in this process."""
    infer(config_file, **overrides)


@pytest.fixture(scope="module", name="weights")
def weights_fixture(tmp_path_factory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.pt")


@pytest.fixture(scope="module", name="paint")
def paint_fixture(weights) -> Callable[..., Output]:
    """Runs the bundle with the tiny network: ``paint(output_dir, image=..., mask=..., **overrides)``."""

    def run(output_dir: Path, case: str = "case", **overrides: Any) -> Output:
        run_workflow(**{**TINY, "weights": str(weights), "output_dir": str(output_dir), **overrides})
        return Output(output_dir, case)

    return run


@pytest.fixture(scope="module", name="case")
def case_fixture(tmp_path_factory) -> dict[str, str]:
    return save_case(tmp_path_factory.mktemp("input"))


@pytest.fixture(name="forwards")
def forwards_fixture(monkeypatch) -> list[int]:
    """The batch size of every forward of the network."""
    calls: list[int] = []
    original = HistogramUNet.forward

    def forward(self, x, *args, **kwargs):
        calls.append(len(x))
        return original(self, x, *args, **kwargs)

    monkeypatch.setattr(HistogramUNet, "forward", forward)
    return calls


@pytest.fixture(name="commands")
def commands_fixture(monkeypatch, repo_root, tmp_path) -> None:
    """Makes ``lefusion_scripts`` importable here and in processes started here, where it is not installed."""
    import importlib.util
    import os

    if importlib.util.find_spec("lefusion_scripts") is None:
        (tmp_path / "path").mkdir()
        (tmp_path / "path" / "lefusion_scripts").symlink_to(repo_root / "scripts")
        monkeypatch.syspath_prepend(tmp_path / "path")
        paths = [str(tmp_path / "path"), str(repo_root), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
