"""Small bundles to pack, ways to damage their zips, and the ``lefusion zoo`` commands in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES, save_weights_of

from lefusion_scripts.zoo_contents import read_schema
from lefusion_scripts.zoo_packing import pack_bundles

NAME = "lefusion_lidc"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


def small_bundle(folder: Path, name: str = NAME) -> Path:
    """A copy of a bundle outside of any checkout, its shared code linked as in the repository, its weights tiny."""
    root = folder / "bundles" / name
    left_out = shutil.ignore_patterns("models", "outputs", "runs", "eval", "__pycache__", "custom_components")
    shutil.copytree(BUNDLES / name, root, ignore=left_out)
    shared = folder / "custom_components"
    if not shared.exists():
        shutil.copytree(BUNDLES / name / "custom_components", shared, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "custom_components").symlink_to("../../custom_components")
    (root / "models").mkdir()
    save_weights_of(BUNDLES / name, root / "models" / "model.pt")
    return root


def pack(root: Path, output: Path, overwrite: bool = False, released: Path | None = None, url: str = "") -> Path:
    """The zip of a bundle, packed in this process."""
    releases, _ = pack_bundles([root], output, url, released or root / "no record", read_schema(), overwrite)
    return releases[0].path


@pytest.fixture(name="zipped")
def zipped_fixture(packed: Path, tmp_path: Path) -> Path:
    """A copy of the zip ``packed``, in a zoo that a test may change."""
    shutil.copytree(packed.parent, tmp_path / "zoo")
    return tmp_path / "zoo" / packed.name


def edit_metadata(root: Path, **changes: Any) -> None:
    """Changes entries of a bundle's metadata; None removes one."""
    path = root / "configs" / "metadata.json"
    metadata = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


def version_of(root: Path) -> str:
    return json.loads((root / "configs" / "metadata.json").read_text())["version"]


def rewrite(
    path: Path,
    changes: Mapping[str, bytes | None] | None = None,
    added: Mapping[str, bytes] | None = None,
    prepare: Callable[[zipfile.ZipInfo], None] | None = None,
) -> None:
    """Writes a zip anew with members changed (None leaves one out) or added; ``prepare`` gets what is added."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    kept = {name: content for name, content in (members | dict(changes or {})).items() if content is not None}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
        for name, content in (added or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            if prepare is not None:
                prepare(info)
            archive.writestr(info, content)


def python(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def command(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs ``lefusion zoo ...`` as a person would."""
    return python("-m", "lefusion_scripts.cli", "zoo", *arguments, cwd=cwd, **environment)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of ``lefusion zoo serve`` on a folder, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lefusion_scripts.cli", "zoo", "serve", str(folder), "--port", "0"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Tests that run in the background inherit that the key for interrupting is ignored; the server is to hear it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        line = process.stdout.readline()
        assert "serving" in line, line
        yield next(word for word in line.replace(",", " ").split() if word.startswith("http"))
    finally:
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.endswith("\nstopped\n")
