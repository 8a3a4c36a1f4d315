"""Puts a stand-in on the path of this environment where torchvision does not fit its PyTorch.

PyPI's torchvision is built for PyPI's PyTorch; beside another build, such as one for CPUs only, it cannot be imported.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

STAND_INS = Path(__file__).resolve().parent / "stand_ins"


def main() -> None:
    """Checks torchvision in a process of its own; takes it out and puts the stand-in in where it fails."""
    if subprocess.run([sys.executable, "-c", "import torchvision.utils"], capture_output=True).returncode == 0:
        return
    uninstall = [sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"]
    subprocess.run(uninstall, capture_output=True)
    (Path(sysconfig.get_paths()["purelib"]) / "torchvision_stand_in.pth").write_text(f"{STAND_INS}\n")
    print("No torchvision fits this build of PyTorch: two functions that MONAI Label imports come from a stand-in.")


if __name__ == "__main__":
    main()
