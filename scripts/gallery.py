"""A synthetic data set on one page."""

from __future__ import annotations

from pathlib import Path

from custom_components.errors import InputError, as_flag
from custom_components.files import check_writable
from custom_components.gallery import write_gallery


def gallery(directory: str, output: str | None = None, cases: int = 60, overwrite: bool = False) -> None:
    """Show a synthetic data set as one HTML page: pictures, sizes, textures, sites, settings.

    The page needs no other file and no network. Its numbers are of the whole set.

    Args:
        directory: folder of the set, as ``lefusion synthesize`` writes it.
        output: HTML file; DIRECTORY/gallery.html by default.
        cases: how many cases are shown with their pictures, spread evenly over the set.
        overwrite: replace an existing page.
    """
    if not isinstance(cases, int) or isinstance(cases, bool) or cases < 1:
        raise InputError(f"cases must be a whole number, 1 or more, got {cases!r}.")
    root = Path(str(directory))
    path = root / "gallery.html" if output is None else Path(str(output))
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"output {path} must end in .html.")
    if path.exists() and not as_flag(overwrite, "overwrite"):
        raise InputError(f"output {path} exists; --overwrite true replaces it.")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder.")
    check_writable(path.parent)
    write_gallery(root, path, cases)
    print(f"gallery: {path} ({path.stat().st_size / 1e6:.1f} MB)")
