"""Small plots as inline SVG; their colours come from the page's style sheet, so that they follow its dark mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

__all__ = ["count_plot", "histogram_plot", "site_plot"]

TEXT = 11  # font size; plots are shown at their own size, so that text stays readable


def _svg(width: int, height: int, label: str, content: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="plot" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">')
    return head.format(width, height, label) + Markup("").join(content) + Markup("</svg>")


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return Markup('<text x="{:g}" y="{:g}" font-size="{}" text-anchor="{}">{}</text>').format(x, y, TEXT, anchor, text)


def histogram_plot(
    requested: np.ndarray,
    achieved: np.ndarray,
    window: tuple[float, float] | None,
    label: str,
    width: int = 150,
    height: int = 62,
) -> Markup:
    """Requested (line) against achieved (bars) histogram over the window of the scan's values.

    Args:
        requested, achieved: (num_bins,); a request of zeros, no texture asked for, has no line.
        window: the values at both ends, written below; None where they differ from lesion to lesion.
        label: what a screen reader says.
    """
    floor, top = height - TEXT - 3, max(requested.max(), achieved.max(), 1e-9)
    step = width / len(achieved)
    heights = [np.asarray(values) / top * (floor - 2) for values in (requested, achieved)]
    bars = "".join(f"M{i * step + 0.5:.1f} {floor}v{-h:.1f}h{step - 1:.1f}v{h:.1f}z" for i, h in enumerate(heights[1]))
    line = f"M0 {floor}" + "".join(f"V{floor - h:.1f}h{step:.2f}" for h in heights[0]) + f"V{floor}"
    low, high = ("low", "high") if window is None else (f"{value:.4g}" for value in window)
    content = [Markup('<path class="achieved" d="{}"/>').format(bars)]
    if requested.any():
        content.append(Markup('<path class="requested" d="{}"/>').format(line))
    content += [
        Markup('<path class="axis" d="M0 {0}H{1}"/>').format(floor, width),
        _text(0, height - 1, low),
        _text(width, height - 1, high, "end"),
    ]
    return _svg(width, height, label, content)


def count_plot(values: np.ndarray, unit: str, label: str, logarithmic: bool = False, width: int = 300) -> Markup:
    """How many of the values lie in each of up to 16 equal bins, of the values or of their logarithms.

    Args:
        values: (n,), above 0; n > 0.
        unit: of the values.
        label: what a screen reader says.
    """
    height, head = 120, TEXT + 4
    floor = height - TEXT - 4
    low, high = float(values.min()), float(values.max())
    number = int(np.clip(np.sqrt(len(values)) * 1.5, 4, 16)) if high > low else 1
    edges = (np.geomspace if logarithmic else np.linspace)(low, high, number + 1)
    edges[0], edges[-1] = low, high
    counts = np.histogram(values, edges)[0] if high > low else np.array([len(values)])
    step = width / number
    content = []
    for i, count in enumerate(counts):
        size = (floor - head) * count / counts.max()
        tip = f"{edges[i]:.3g} to {edges[i + 1]:.3g} {unit}: {count}"
        content.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
            ).format(i * step + 1, floor - size, step - 2, size, tip)
        )
    peak = int(counts.argmax())
    content += [
        _text(np.clip((peak + 0.5) * step, 12, width - 12), floor - (floor - head) - 4, str(counts.max()), "middle"),
        Markup('<path class="axis" d="M0 {0}H{1}"/>').format(floor, width),
        _text(0, height - 1, f"{low:.3g} {unit}"),
        _text(width, height - 1, f"{high:.3g} {unit}", "end"),
    ]
    middle = f"{edges[number // 2]:.3g}"
    if number > 2:
        content.append(_text(number // 2 * step, height - 1, middle, "middle"))
    return _svg(width, height, label, content)


def site_plot(
    sites: Sequence[tuple[str, str, str, np.ndarray]], across: int, up: int, letters: str, label: str, size: int = 260
) -> Markup:
    """Points in a box, as if seen from the patient's feet (axial) or front (coronal).

    Args:
        sites: (lesion class, texture, CSS class, points (n, 3) as ``contents.Lesion.site``), in the order of drawing.
        across, up: the axes of a point that run to the left and upwards in the picture.
        letters: what stands at the left, right, top and bottom of the box.
        label: what a screen reader says.
    """
    edge = TEXT + 6
    inner = size - 2 * edge
    content = [Markup('<rect class="box" x="{0}" y="{0}" width="{1}" height="{1}"/>').format(edge, inner)]
    for name, texture, colour, points in sites:
        places = edge + inner * (1 - points[:, (across, up)])
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
        content.append(
            Markup('<path class="site {}" data-class="{}" data-texture="{}" d="{}"/>').format(
                colour, name, texture, path
            )
        )
    middle = size / 2
    content += [
        _text(2, middle + 4, letters[0]),
        _text(size - 2, middle + 4, letters[1], "end"),
        _text(middle, TEXT, letters[2], "middle"),
        _text(middle, size - 3, letters[3], "middle"),
    ]
    return _svg(size, size, label, content)
