"""Downloaded bundles on their own: every workflow, in an environment that has what their metadata names and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_facts import save_chests, save_hearts
from bundle_runs import BUNDLES, options, stored_of, weights
from segmentation_runs import save_nodules
from zoo_bundles import served

from lefusion_scripts.zoo_contents import read_schema
from lefusion_scripts.zoo_packing import pack_bundles

ONE_STEP = {"num_inference_steps": 1}
ONE_EPOCH = {"max_epochs": 1, "repeats": 1, "val_interval": 1, "batch_size": 1}


@dataclass(frozen=True)
class Lone:
    """Quick runs of a bundle: settings by workflow, a data set to train and evaluate on, and what each run writes."""

    settings: Mapping[str, Mapping[str, Any]]
    save_data: Callable[[Path], None]
    files: Mapping[str, str]


JUDGE = {"width": 8, "spatial_size": [32, 32, 32]}
SMALL, THICK = {"spatial_size": [16, 16, 16]}, {"spatial_size": [24, 24, 6]}
LONE = {
    "diffmask": Lone(
        {"inference": ONE_STEP | {"num_random": 1}, "evaluate": ONE_STEP, "training": ONE_EPOCH},
        save_chests,
        {"inference": "sample_mask_1.nii.gz", "evaluate": "masks.json"},
    ),
    "lesion_segmentation": Lone(
        {
            "inference": {},
            "evaluate": JUDGE,
            "training": JUDGE | {"max_epochs": 1, "steps_per_epoch": 1, "val_interval": 1, "batch_size": 1},
        },
        save_nodules,
        {"inference": "sample_segmentation.nii.gz", "evaluate": "summary.json"},
    ),
    "lefusion_emidec": Lone(
        {"inference": ONE_STEP, "evaluate": ONE_STEP | THICK, "training": ONE_EPOCH | THICK | {"val_repeats": 1}},
        save_hearts,
        {"inference": "phantom_lefusion.nii.gz", "evaluate": "summary.json"},
    ),
    "lefusion_lidc": Lone(
        {
            "inference": ONE_STEP | {"spatial_size": [32, 32, 32]},
            "evaluate": ONE_STEP | SMALL,
            "training": ONE_EPOCH | SMALL | {"val_repeats": 1},
        },
        save_chests,
        {"inference": "sample_lefusion.nii.gz", "evaluate": "summary.json"},
    ),
}
WORKFLOWS = {
    "inference": ("inference", ["inference"]),
    "evaluate": ("evaluating", ["train", "evaluate"]),
    "training": ("training", ["train"]),
}
PLACES = ("the bundle", "its parent", "elsewhere")
# Each workflow is run from each place, and each bundle too: three runs a bundle in place of nine.
RUNS = [
    pytest.param(name, workflow, PLACES[(a + b) % 3], id=f"{name}-{workflow}-from {PLACES[(a + b) % 3]}")
    for (a, name), (b, workflow) in product(enumerate(LONE), enumerate(WORKFLOWS))
]


@pytest.fixture(scope="module")
def home(lone_environment, tmp_path_factory) -> Path:
    """A folder with every bundle as MONAI's own download leaves it, taken from a zoo of the shipped bundles."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in LONE:
        left_out = shutil.ignore_patterns("outputs", "runs", "eval", "checkpoints", "__pycache__")
        shutil.copytree(BUNDLES / name, folder / "source" / name, ignore=left_out)
    roots = [folder / "source" / name for name in LONE]
    pack_bundles(roots, folder / "dist", "", folder / "no record", read_schema(), overwrite=False)
    home = folder / "home"
    home.mkdir()
    with served(folder / "dist") as url:
        for name in LONE:
            download = ["-m", "monai.bundle", "download", "--name", name, "--url", f"{url}/{name}.zip"]
            process = alone(lone_environment, *download, "--bundle_dir", home, cwd=folder)
            assert process.returncode == 0, process.stderr
    shutil.rmtree(folder / "source")
    return home


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a bundle's data set, made when first asked for."""

    def data_of(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        LONE[name].save_data(folder)
        return folder

    return data_of


def alone(python: Path, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs the environment's Python, without anything that this process's environment adds to its path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(python), *map(str, arguments)],
        cwd=cwd,
        env={**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.integration
def test_environment_has_neither_the_project_nor_what_bundles_do_not_ask_for(lone_environment, tmp_path):
    names = ["custom_components", "lefusion_scripts", "pydicom", "highdicom", "jsonschema", "psutil", "pytest"]
    code = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name)])"
    assert alone(lone_environment, "-c", code, cwd=tmp_path).stdout == "[]\n"


@pytest.mark.integration
@pytest.mark.parametrize(("name", "workflow", "place"), RUNS)
def test_downloaded_bundle_runs_alone(lone_environment, home, data, tmp_path, name, workflow, place):
    key, configs = WORKFLOWS[workflow]
    folder, cwd = {
        "the bundle": (Path("configs"), home / name),
        "its parent": (Path(name) / "configs", home),
        "elsewhere": (home / name / "configs", tmp_path),
    }[place]
    files = [str(folder / f"{config}.json") for config in configs]
    settings = {"output_dir": tmp_path / "out", **LONE[name].settings[workflow]}
    if workflow != "inference":  # which reads the bundle's own sample
        settings["dataset_dir"] = data(name)
    arguments = options(config_file=files if len(files) > 1 else files[0], **settings)
    process = alone(lone_environment, "-m", "monai.bundle", "run", key, *arguments, cwd=cwd)
    assert process.returncode == 0, process.stderr[-3000:]
    if workflow == "training":
        learned, shipped = weights(tmp_path / "out"), torch.load(home / name / "models" / "model.pt", weights_only=True)
        assert learned.keys() == shipped.keys()
        return
    assert (tmp_path / "out" / LONE[name].files[workflow]).stat().st_size > 0
    if workflow == "inference" and name.startswith("lefusion_"):
        assert_only_lesions_changed(home / name, tmp_path / "out" / LONE[name].files[workflow])


def assert_only_lesions_changed(bundle: Path, painted: Path) -> None:
    (case,) = json.loads((bundle / "sample" / "datalist.json").read_text())
    image, label = (stored_of(bundle / "sample" / case[key]) for key in ("image", "label"))
    classes = json.loads((bundle / "configs" / "inference.json").read_text())["lesion_classes"]
    changed = stored_of(painted) != image
    assert changed.any()
    assert set(np.unique(label[changed])) <= set(classes.values())


LOAD = """
import json
import os
import sys
from pathlib import Path

class Absent:
    # What painting without pictures does not need, as if it were not installed.
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydicom", "highdicom", "jinja2", "matplotlib", "itk", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch
import monai.bundle

root, elsewhere, settings, data = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
sys.path.insert(0, str(root))
shipped = torch.load(root / "models" / "model.pt", weights_only=True)
for place, folder in ((root, ".."), (root.parent, "."), (elsewhere, root.parent)):
    os.chdir(place)
    network = monai.bundle.load(root.name, bundle_dir=folder, workflow_type="inference")
    loaded = network.state_dict()
    assert loaded.keys() == shipped.keys() and all(torch.equal(loaded[key], shipped[key]) for key in shipped)
    configs = Path(folder) / root.name / "configs"
    training = monai.bundle.create_workflow(
        config_file=str(configs / "train.json"), workflow_type="train", logging_file=False, dataset_dir=data
    )
    inference = monai.bundle.create_workflow(
        config_file=str(configs / "inference.json"),
        workflow_type="inference",
        logging_file=False,
        panel=False,
        output_dir=str(Path(elsewhere) / "out"),
        **settings,
    )
    assert Path(training.bundle_root).resolve() == Path(inference.bundle_root).resolve() == root
    assert training.train_dataset_data and inference.check_properties() == []
inference.run()
inference.finalize()
print("absent", sorted({"matplotlib", "itk", "tensorboard"} - sys.modules.keys()))
"""


@pytest.mark.integration
@pytest.mark.parametrize("name", LONE)
def test_downloaded_bundle_is_loaded_from_anywhere_and_paints_without_the_packages_of_pictures(
    lone_environment, home, data, tmp_path, name
):
    settings = json.dumps(LONE[name].settings["inference"])
    process = alone(lone_environment, "-c", LOAD, home / name, tmp_path, settings, data(name), cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.endswith("absent ['itk', 'matplotlib', 'tensorboard']\n")
    assert (tmp_path / "out" / LONE[name].files["inference"]).stat().st_size > 0
