"""Puts a gallery's page together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from tqdm import tqdm

from ..errors import InputError
from ..files import write_atomically
from ..synthesis.records import RUN_FILE, read_manifest, read_run
from .contents import Case, Lesion, TextureSummary, read_case, summarise
from .pictures import embed
from .plots import count_plot, histogram_plot, site_plot

__all__ = ["write_gallery"]

# What bounds the page, however large the set is.
PICTURE_BYTES = 9_000_000  # of all pictures; as text they take a third more
MAX_LESIONS = 24  # listed of one case
MAX_SITES = 3000
MAX_FAILED = 20
MAX_CHARACTERS = 300  # of one setting
COLOURS = 8  # of the style sheet


def write_gallery(root: str | Path, path: str | Path | None = None, max_cases: int = 60) -> Path:
    """Writes the page of a synthetic data set, one HTML file that needs no other file and no network.

    All numbers are of the whole set. Pictures are shown of at most ``max_cases`` cases, spread evenly over the cases
    in the order of the manifest. Of paths among the settings only the last part is told, since a page is passed on.
    The same set gives the same page.

    Args:
        root: folder of the set, with ``manifest.jsonl``, ``synthesis.json`` and what they name.
        path: HTML file, replaced where it exists; ``root/gallery.html`` by default.
        max_cases: how many cases are shown.

    Returns:
        The path.

    Raises:
        InputError: where the folder is no such set, or a sidecar is missing or incomplete.
    """
    root = Path(str(root))
    path = root / "gallery.html" if path is None else Path(str(path))
    records = read_manifest(root)
    run = read_run(root) if (root / RUN_FILE).is_file() else {}
    picked = {round(i) for i in np.linspace(0, len(records) - 1, max_cases)} if len(records) > max_cases else None
    lesions, shown, difference = [], [], 0.0
    for number, record in enumerate(tqdm(records, desc="cases", delay=10)):
        case = read_case(root, record)
        lesions += case.lesions
        difference = max(difference, case.difference_outside)
        if picked is None or number in picked:
            shown.append(case)
    textures = sorted({lesion.texture for lesion in lesions})
    colours = {texture: f"c{n % COLOURS}" for n, texture in enumerate(textures)}
    choices = {"texture": textures, "class": sorted({lesion.lesion_class for lesion in lesions})}
    failed = _failed(root / "failed.jsonl")
    everything = f"All {len(records)} cases." if len(records) > 1 else "The only case."
    some = f"{len(shown)} of {len(records)} cases, spread evenly; the numbers above are of all."
    content = {
        "title": root.absolute().name,
        "version": run.get("version"),
        "figures": _figures(records, lesions, difference, len(failed)),
        "lesions": lesions,
        "summaries": [_summary_row(part, len(lesions), colours) for part in summarise(lesions)],
        "sizes": _size_plots(lesions),
        "sites": _site_plots(lesions, colours),
        "textures": list(colours.items()),
        "filters": [(kind, choices) for kind, choices in choices.items() if len(choices) > 1],
        "sample": some if len(shown) < len(records) else everything,
        "cases": [
            _case_view(root, case, colours, PICTURE_BYTES // len(shown))
            for case in tqdm(shown, desc="pictures", delay=10)
        ],
        "failed": {"count": len(failed), "listed": failed[:MAX_FAILED]},
        "settings": _settings(run),
    }
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    templates.filters["words"] = lambda name: str(name).replace("_", " ")
    text = templates.get_template("page.html").render(content)
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def _figures(
    records: Sequence[Mapping[str, Any]], lesions: Sequence[Lesion], difference: float, failed: int
) -> list[tuple[str, str]]:
    """The numbers at the top: value and what it counts."""
    counts = {
        "case": len(records),
        "scan": len({record.get("scan") for record in records}),
        "lesion": len({(lesion.case, lesion.number) for lesion in lesions}),
        "failure": failed,
    }
    figures = [(str(n), name if n == 1 else f"{name}s") for name, n in counts.items() if n or name != "failure"]
    return [*figures, (f"{difference:g}", "largest change outside the masks")]


def _summary_row(part: TextureSummary, total: int, colours: Mapping[str, str]) -> dict[str, Any]:
    label = f"Mean requested and achieved histogram of {part.lesions} lesions: {part.lesion_class}, {part.texture}"
    return {
        "lesion_class": part.lesion_class,
        "texture": part.texture,
        "colour": colours[part.texture],
        "lesions": part.lesions,
        "share": f"{100 * part.lesions / total:.0f} %",
        "radius": _spread(part.radii_mm, "{:.1f} mm".format),
        "volume": _spread(part.volumes_mm3, _volume),
        "distance": _spread(part.distances, "{:.3f}".format),
        "plot": histogram_plot(part.requested, part.achieved, part.window, label, width=260, height=110),
    }


def _spread(values: np.ndarray, name: Any) -> str:
    """Median and range; only the value where there is one."""
    if len(values) < 2:
        return name(values[0]) if len(values) else "none asked for"
    return f"{name(np.median(values))} ({name(values.min())} to {name(values.max())})"


def _volume(volume_mm3: float) -> str:
    return f"{volume_mm3:.0f} mm³" if volume_mm3 < 1000 else f"{volume_mm3 / 1000:.1f} ml"


def _size_plots(lesions: Sequence[Lesion]) -> list[tuple[str, Any]]:
    """Distributions of radius and volume: name and plot."""
    if not lesions:
        return []
    radii = np.array([lesion.radius_mm for lesion in lesions])
    volumes = np.array([lesion.volume_mm3 for lesion in lesions]) / 1000
    return [
        ("lesions by radius (of the ball of equal volume)", count_plot(radii, "mm", f"Radii of {len(radii)} lesions")),
        (
            "lesions by volume (logarithmic)",
            count_plot(volumes, "ml", f"Volumes of {len(volumes)} lesions", logarithmic=True),
        ),
    ]


def _site_plots(lesions: Sequence[Lesion], colours: Mapping[str, str]) -> dict[str, Any] | None:
    """Both projections of the lesions' centres, at most ``MAX_SITES`` of them; None where no centre is known."""
    known = [lesion for lesion in lesions if lesion.site is not None]
    if not known:
        return None
    drawn = known
    if len(known) > MAX_SITES:
        drawn = [known[round(i)] for i in np.linspace(0, len(known) - 1, MAX_SITES)]
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for lesion in drawn:
        groups.setdefault((lesion.lesion_class, lesion.texture), []).append(lesion.site)
    sites = [(name, texture, colours[texture], np.array(points)) for (name, texture), points in sorted(groups.items())]
    label = f"Centres of {len(drawn)} lesions within their scans, {{}} projection"
    return {
        "known": len(known),
        "shown": len(drawn),
        "coronal": site_plot(sites, 0, 2, "RLHF", label.format("coronal")),
        "axial": site_plot(sites, 0, 1, "RLAP", label.format("axial")),
    }


def _case_view(root: Path, case: Case, colours: Mapping[str, str], max_bytes: int) -> dict[str, Any]:
    rows = [
        {
            "number": lesion.number,
            "lesion_class": lesion.lesion_class,
            "texture": lesion.texture,
            "colour": colours[lesion.texture],
            "radius": f"{lesion.radius_mm:.1f} mm",
            "volume": _volume(lesion.volume_mm3),
            "distance": "none" if lesion.distance is None else f"{lesion.distance:.3f}",
            "plot": histogram_plot(
                lesion.requested,
                lesion.achieved,
                lesion.window,
                f"Requested and achieved histogram of lesion {lesion.number}",
            ),
        }
        for lesion in case.lesions
    ]
    files = case.record["files"]
    panel = root / files["panel"] if "panel" in files else None
    made = ", ".join(f"{row['lesion_class']} {row['texture']} of radius {row['radius']}" for row in rows[:MAX_LESIONS])
    return {
        "name": case.record["case"],
        "scan": case.record["scan"],
        "mask_source": case.mask_source,
        "rows": rows[:MAX_LESIONS],
        "left_out": len(rows[MAX_LESIONS:]),
        "alt": f"Original, mask, result and difference of case {case.record['case']}: {made}",
        "picture": embed(panel, max_bytes) if panel is not None and panel.is_file() else None,
    }


def _failed(path: Path) -> list[tuple[str, str]]:
    """Cases that failed: name and sentence."""
    if not path.is_file():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return [(str(entry["case"]), str(entry["error"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of failed cases: {error!r}.") from error


def _settings(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of every setting; nested ones as ``a.b``."""
    found: list[tuple[str, str]] = []
    for key, value in run.items():
        if isinstance(value, Mapping):
            found += [(f"{key}.{name}" if key != "command" else name, text) for name, text in _settings(value)]
        elif value is not None:
            text = Path(value).name if isinstance(value, str) and Path(value).is_absolute() else str(value)
            found.append((key, text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + " ..."))
    return found
