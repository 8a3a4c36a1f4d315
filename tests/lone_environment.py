"""An environment for bundles on their own: PyTorch, MONAI, numpy and the packages that the bundles' metadata names.

``python tests/lone_environment.py`` (``make lone-venv``) makes it in ``.venv-lone``, anew where the packages changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["FOLDER", "lone_python", "required_packages"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv-lone"
CONSTRAINTS = ROOT / "constraints.txt"


def required_packages() -> list[str]:
    """The names of what the bundles' metadata asks for, PyTorch aside."""
    names = {"monai", "numpy"}
    for path in ROOT.glob("bundles/*/configs/metadata.json"):
        names |= set(json.loads(path.read_text()).get("required_packages_version", {}))
    return sorted(names)


def pinned_packages() -> list[str]:
    """Their lines, and PyTorch's, in the project's constraints: which versions are tested."""
    names = {"torch", *required_packages()}
    return [line for line in CONSTRAINTS.read_text().splitlines() if line.split("==")[0] in names]


def lone_python() -> Path:
    """The environment's Python, made where it is absent or other packages or versions are asked for now.

    Raises:
        RuntimeError: where the packages cannot be had.
    """
    python = FOLDER / "bin" / "python"
    # What decides about the packages; written last, so that an interrupted installation does not count.
    record, asked = FOLDER / "asked.txt", "\n".join([sys.version, *required_packages(), *pinned_packages()])
    if python.exists() and record.is_file() and record.read_text() == asked:
        return python
    print(f"Installing what a bundle alone needs into {FOLDER.name}; this takes some minutes ...", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check", "--retries", "1"]
    pip += ["--no-compile"]  # most of it is never imported
    torch = next(line for line in pinned_packages() if line.startswith("torch=="))
    commands = [
        [sys.executable, "-m", "venv", str(FOLDER)],
        # PyTorch first, by its exact version, so that nothing installed after it can pull in another build.
        [*pip, "-c", str(CONSTRAINTS), torch],
        [*pip, "-c", str(CONSTRAINTS), *required_packages()],
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in commands:
        process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if process.returncode != 0:
            shutil.rmtree(FOLDER, ignore_errors=True)
            told = (process.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise RuntimeError(f"the packages that a bundle alone needs cannot be installed: {told}")
    record.write_text(asked)
    return python


if __name__ == "__main__":
    try:
        lone_python()
    except RuntimeError as error:  # offline, say: the other tests can run nevertheless
        print(f"{error}\nTests of bundles on their own will be skipped.", file=sys.stderr)
