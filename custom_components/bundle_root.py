"""Where a bundle lies, whatever the working directory."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["find_bundle_root"]


def find_bundle_root(name: str) -> str:
    """The folder of the bundle ``name``: the default of the configs' ``bundle_root``.

    It is the working directory where that is the bundle, else ``bundles/NAME`` below it, else the bundle that this
    package lies in (a bundle downloaded alone), else ``bundles/NAME`` beside this package (a checkout).
    Where none of them is that bundle, the working directory, MONAI's usual default.
    """
    package = Path(__file__).absolute().parent
    places = (
        Path("."),
        Path("bundles") / name,
        package.parent,
        package.resolve().parent / "bundles" / name,
    )
    return next((str(place) for place in places if _is_bundle(place, name)), ".")


def _is_bundle(folder: Path, name: str) -> bool:
    try:
        return json.loads((folder / "configs" / "metadata.json").read_text()).get("name") == name
    except (OSError, ValueError):
        return False
