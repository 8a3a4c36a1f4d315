"""A bundle's metadata names the packages that its configs' code imports: all of them, no others, in tested versions."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from bundle_runs import BUNDLES
from lone_environment import required_packages

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))
# What is imported under another name than the one it is installed by.
PACKAGES = {"ignite": "pytorch-ignite", "skimage": "scikit-image", "mpl_toolkits": "matplotlib"}
# What no module of the bundle imports itself.
BY_MONAI = {
    "fire": "the commands of monai.bundle",
    "einops": "the attention blocks of MONAI's networks",
    "itk": "MONAI's reader of DICOM",
    "tensorboard": "torch.utils.tensorboard",
}
IN_METADATA_ELSEWHERE = {"torch", "monai", "numpy"}
# What an overlay alone needs, and asks for in a sentence where it is absent.
OPTIONAL = {"onnxruntime"}


@lru_cache
def imported_by(path: Path) -> tuple[frozenset[Path], frozenset[str]]:
    """Modules of custom_components, and packages, that a module imports: anywhere in it, but not for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    own, others = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1]
            base = folder / node.module.replace(".", "/") if node.module else folder
            found = [base, *(base / alias.name for alias in node.names)]
            own |= {module for place in found for module in files_of(place)}
    return frozenset(own), frozenset(others - set(sys.stdlib_module_names))


def files_of(place: Path) -> Iterator[Path]:
    yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def needed_by(bundle: Path) -> set[str]:
    """Packages that the components named in a bundle's configs import, and what these import, and so on."""
    text = "\n".join(path.read_text() for path in (bundle / "configs").glob("*.json"))
    waiting = {
        module
        for name in re.findall(r"custom_components((?:\.\w+)+)", text)
        for depth in range(1, name.count(".") + 1)
        for module in files_of(bundle / "custom_components" / "/".join(name.split(".")[1 : depth + 1]))
    }
    assert waiting
    done, packages = set(), set()
    while waiting:
        module = waiting.pop()
        done.add(module)
        own, others = imported_by(module)
        waiting |= own - done
        packages |= {PACKAGES.get(package, package) for package in others}
    return packages


def required_by(bundle: Path) -> dict[str, str]:
    return json.loads((bundle / "configs" / "metadata.json").read_text())["required_packages_version"]


@pytest.mark.parametrize("name", NAMES)
def test_metadata_names_what_is_imported_and_nothing_else(name):
    needed = needed_by(BUNDLES / name) - IN_METADATA_ELSEWHERE - OPTIONAL
    required = set(required_by(BUNDLES / name))
    assert needed - required == set()
    assert required - needed - set(BY_MONAI) == set()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the bundles' versions are those for Python 3.11 and newer")
@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_that_the_project_is_tested_with(name):
    text = (BUNDLES.parent / "constraints.txt").read_text()
    tested = dict(re.findall(r'^([\w.-]+)==([\w.]+)(?= *$| ; python_version >= "3.11"$)', text, re.MULTILINE))
    metadata = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())
    versions = required_by(BUNDLES / name) | {
        package: metadata[f"{key}_version"]
        for package, key in (("torch", "pytorch"), ("monai", "monai"), ("numpy", "numpy"))
    }
    assert {package: tested[package] for package in versions} == versions


def test_lone_environment_is_made_of_all_bundles_packages():
    assert {"monai", "numpy"}.union(*(required_by(BUNDLES / name) for name in NAMES)) == set(required_packages())
