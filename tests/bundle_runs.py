"""Running a bundle's workflows in this process and in others, and reading what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.engines import SupervisedTrainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
TINY_NETWORK = {"channels": [8, 8, 8], "norm_num_groups": 4, "num_head_channels": 4, "context_dim": 8}
RAS = np.array([[1.0, 0, 0, -17], [0, 1, 0, 20], [0, 0, 1, -300], [0, 0, 0, 1]])
# MONAI's own command, which then tells where the shared code came from.
LONE_RUN = """
import runpy, sys
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
import custom_components
print("custom_components from", custom_components.__file__)
"""


# ----------------------------------------------------------------------------------------- volumes


def save_nifti(
    path: Path,
    stored: np.ndarray,
    affine: np.ndarray = RAS,
    scaling: tuple[float, float] = (1.0, 0.0),
    header: nib.Nifti1Header | None = None,
) -> Path:
    """Writes voxels exactly as given, with slope and intercept beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(stored, affine, header)
    image.set_data_dtype(stored.dtype)
    image.header.set_slope_inter(*scaling)
    nib.save(image, path)
    np.testing.assert_array_equal(stored_of(path), stored)
    return path


def stored_of(path: str | Path) -> np.ndarray:
    """Voxels as they lie in the file, before slope and intercept."""
    return np.asarray(nib.load(path).dataobj.get_unscaled())


# ----------------------------------------------------------------------------------------- inference


@dataclass(frozen=True)
class Output:
    """The files of a painted case."""

    folder: Path
    case: str = "case"

    @property
    def image(self) -> nib.Nifti1Image:
        return nib.load(self.folder / f"{self.case}_lefusion.nii.gz")

    @property
    def stored(self) -> np.ndarray:
        return stored_of(self.folder / f"{self.case}_lefusion.nii.gz")

    @property
    def mask(self) -> nib.Nifti1Image:
        return nib.load(self.folder / f"{self.case}_mask.nii.gz")

    @property
    def sidecar(self) -> dict[str, Any]:
        return json.loads((self.folder / f"{self.case}_lefusion.json").read_text())

    @property
    def specs(self) -> list[dict[str, Any]]:
        return [lesion["spec"] for lesion in self.sidecar["lesions"]]

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def read_configs(bundle: Path, *names: str) -> ConfigParser:
    """A bundle's configs by name, merged as MONAI merges them."""
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{name}.json") for name in names])
    return parser


def save_weights_of(bundle: Path, path: Path, *overlays: str, **network: Any) -> Path:
    """Weights of a bundle's network made tiny, none of them zero, so that the whole network takes part."""
    parser = read_configs(bundle, "inference", *overlays)
    parser.update({f"network_def#{key}": value for key, value in {**TINY_NETWORK, **network}.items()})
    torch.manual_seed(0)
    net = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    torch.save(net.state_dict(), path)
    return path


def infer(config_file: str | Path | list[str], **overrides: Any) -> None:
    """What ``python -m monai.bundle run --config_file ...`` does, in this process."""
    files = config_file if isinstance(config_file, list) else str(config_file)
    workflow = ConfigWorkflow(workflow_type="infer", config_file=files, logging_file=False, **overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


@pytest.fixture(autouse=True)
def same_excepthook(monkeypatch):
    """The bundles install their own excepthook, as they should in a process of their own."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def causes(error: BaseException | None) -> list[BaseException]:
    """An error and everything it came from: MONAI wraps what its configs raise."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def options(**overrides: Any) -> list[str]:
    """Overrides as a command's options."""
    text = {key: json.dumps(value) if isinstance(value, list) else str(value) for key, value in overrides.items()}
    return [part for key, value in text.items() for part in (f"--{key}", value)]


# ----------------------------------------------------------------------------------------- training


def execute(flow: ConfigWorkflow, prepare: Callable[[SupervisedTrainer], None] | None = None) -> None:
    """Runs a workflow in this process; ``prepare`` gets the trainer before it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "path", [*sys.path])
        flow.initialize()
        torch.manual_seed(7)
        if prepare is not None:
            prepare(flow.parser.get_parsed_content("train#trainer"))
        flow.run()
        flow.finalize()


def training_workflow(
    bundle: Path, configs: Sequence[str | Path], dataset_dir: Path, output_dir: Path, **overrides: Any
) -> ConfigWorkflow:
    """A bundle's configs (names in its folder, or paths), merged, with overrides."""
    return ConfigWorkflow(
        config_file=[str(bundle / "configs" / config) for config in configs],
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(dataset_dir),
        output_dir=str(output_dir),
        **overrides,
    )


def command(*arguments, launcher=("-m", "monai.bundle"), cwd: Path, **overrides) -> subprocess.CompletedProcess:
    """Runs ``python -m monai.bundle ...`` as a person would, who has set no PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [
            sys.executable,
            *launcher,
            *map(str, arguments),
            *(item for key, value in overrides.items() for item in (f"--{key}", str(value))),
        ],
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def train_in_two_processes(bundle: Path, dataset_dir: Path, folder: Path, **overrides: Any) -> None:
    """Trains by the multi-GPU overlay on two processes of this machine.

    Each process gets an output folder of its own, ``out_0`` and ``out_1``, so that what a process writes can be told
    from what another does, and writes its losses to ``losses_0`` and ``losses_1``.
    """
    losses = {
        "_target_": "TensorBoardStatsHandler",
        "log_dir": f"$'{folder}/losses_' + str(@rank)",
        "output_transform": "$lambda output: output['loss'].item()",
        "tag_name": "loss",
    }
    overlay = {
        "+train#handlers": [losses],
        "+initialize": ["$torch.manual_seed(7)"],
        "output_dir": f"$'{folder}/out_' + str(@rank)",
    }
    (folder / "overlay.json").write_text(json.dumps(overlay))
    configs = [bundle / "configs" / "train.json", bundle / "configs" / "multi_gpu_train.json", folder / "overlay.json"]
    process = command(
        "run",
        "training",
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle"),
        cwd=folder,
        config_file=[str(config) for config in configs],
        bundle_root=bundle,
        dataset_dir=dataset_dir,
        **overrides,
    )
    assert process.returncode == 0, process.stderr[-3000:]


def assert_trained_alike(folder: Path, alone: Path, steps: int) -> None:
    """The two processes of :func:`train_in_two_processes` did together what the training in ``alone`` did."""
    losses = scalars(alone / "tensorboard", "train_loss")
    of_rank = [scalars(folder / f"losses_{rank}", "loss") for rank in (0, 1)]
    assert len(losses) == steps
    assert of_rank[0] != of_rank[1]
    np.testing.assert_allclose(np.mean(of_rank, axis=0), losses, rtol=1e-4)
    np.testing.assert_allclose(
        scalars(folder / "out_0" / "tensorboard", "val_loss"), scalars(alone / "tensorboard", "val_loss"), rtol=1e-4
    )
    for together, expected in (
        (weights(folder / "out_0"), weights(alone)),
        (latest(folder / "out_0")["network"], latest(alone)["network"]),
    ):
        assert together.keys() == expected.keys()
        for key, value in together.items():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
    assert not (folder / "out_1").exists()


def latest(output_dir: Path) -> dict:
    return torch.load(output_dir / "checkpoints" / "checkpoint_latest.pt", weights_only=True)


def weights(output_dir: Path, name: str = "model_final.pt") -> dict[str, torch.Tensor]:
    return torch.load(output_dir / "checkpoints" / name, weights_only=True)


def scalars(folder: Path, tag: str) -> list[float]:
    """A TensorBoard curve in the order of its steps."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return [event.value for event in sorted(events.Scalars(tag), key=lambda event: event.step)]


def names(folder: Path) -> list[str]:
    """What lies in a folder itself."""
    return sorted(path.name for path in folder.iterdir())


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(first: object, second: object) -> bool:
    """Equality bit for bit of nested states."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
