"""What a synthesis is asked for: every option read once, checked early, and written down as it was understood."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bundle_configs import as_overrides
from ..errors import InputError, as_flag

__all__ = ["MASK_SOURCES", "SETS", "SynthesisOptions", "fix_by_set", "read_options"]

MASK_SOURCES = ("diffmask", "handcrafted", "copy", "given")
# The synthetic sets of section 4: what each leaves to choose. The cardiac sets differ in cases per scan, since all that
# a heart has is one lesion.
SETS: dict[str, dict[str, Any]] = {
    "P'": {"masks": ("given",), "lesions": None, "joint_cases": 1},
    "N'": {"masks": ("diffmask", "handcrafted", "copy"), "lesions": (1, 1), "joint_cases": 2},
    "N''": {"masks": ("diffmask", "handcrafted", "copy"), "lesions": (2, 3), "joint_cases": 5},
    "copy_paste": {"masks": ("copy",), "lesions": (1, 1), "joint_cases": 1},
}
# Keys of the bundles' configs that the synthesis sets itself, and the option that stands for each.
OWN_KEYS = ("image", "mask", "dataset_dir", "output_dir", "overwrite", "resume", "replay", "bundle_root")
OWN_MASK_KEYS = (
    "image",
    "organ",
    "organ_labels",
    "grid",
    "spheres",
    "coordinates",
    "num_random",
    "radius_mm",
    "samples",
)


@dataclass(frozen=True)
class SynthesisOptions:
    """The options of one synthesis, as understood. All but ``threads`` and the two folders decide on the voxels.

    Attributes:
        input: a scan, or a folder of scans; see :func:`~custom_components.synthesis.scans.find_scans`.
        output: folder of the set.
        organ_mask: a file, or a folder with a file for each scan; None: found, or not needed.
        organ_labels: the organ's labels in its file; None: what the mask bundle's config says, else all above 0.
        bundle, config: what paints: a bundle's name or folder, and overlays over its inference.json.
        masks: one of ``MASK_SOURCES``.
        mask_bundle, mask_config: what draws masks; a config of None leaves it to the painting bundle.
        library: data set of real lesions to copy.
        set: one of ``SETS``, or None.
        cases_per_scan: cases made of each scan.
        lesions: fewest and most lesions of a case; None where the masks are given.
        radius_mm: smallest and largest radius of the control spheres; None: as real lesions.
        texture: what :func:`~custom_components.planning.plan_lesions` takes.
        texture_weights: name -> weight of textures drawn at random; None: as the bundle has them.
        layout, title: see :mod:`~custom_components.synthesis.layouts`.
        seed: run seed.
        batch_size: lesions painted at a time.
        group_size: cases worked on together, whose scans are in memory; batches are composed within a group.
        threads: of PyTorch, for each process: results differ in their last bits with it.
        panel: draw the pictures.
        overrides, mask_overrides: further keys of the two inference configs.
    """

    input: str
    output: str
    bundle: str
    organ_mask: str | None = None
    organ_labels: tuple[int, ...] | None = None
    config: tuple[str, ...] = ()
    masks: str = "diffmask"
    mask_bundle: str = "diffmask"
    mask_config: tuple[str, ...] | None = None
    library: str | None = None
    set: str | None = None
    cases_per_scan: int = 1
    lesions: tuple[int, int] | None = (1, 1)
    radius_mm: tuple[float, float] | None = None
    texture: Any = "random"
    texture_weights: Mapping[str, float] | None = None
    layout: str = "plain"
    title: str = "LeFusion"
    seed: int = 0
    batch_size: int = 4
    group_size: int = 4
    threads: int = 1
    panel: bool = True
    overrides: Mapping[str, Any] = field(default_factory=dict)
    mask_overrides: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: tuples become lists."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SynthesisOptions:
        """The options that :meth:`as_dict` wrote down."""
        lists = ("organ_labels", "config", "mask_config", "lesions", "radius_mm")
        return cls(**{k: tuple(v) if k in lists and v is not None else v for k, v in values.items()})

    @property
    def copies_values(self) -> bool:
        """Whether intensities are copied with the masks, and nothing is painted."""
        return self.set == "copy_paste"


def read_options(**given: Any) -> SynthesisOptions:
    """The options of a command line; what was not given is None.

    Raises:
        InputError: naming the first option that is wrong or contradicts another.
    """
    given = {key: value for key, value in given.items() if value is not None}
    for key in ("input", "output"):
        if key not in given:
            raise InputError(f"synthesize needs --{key}.")
    chosen = str(given.get("set", "")) or None
    if chosen is not None and chosen not in SETS:
        raise InputError(f"set must be one of {', '.join(SETS)}, got {chosen!r}.")
    masks = str(given.get("masks", SETS[chosen]["masks"][0] if chosen else "diffmask"))
    if masks not in MASK_SOURCES:
        raise InputError(f"masks must be one of {', '.join(MASK_SOURCES)}, got {masks!r}.")
    if chosen and masks not in SETS[chosen]["masks"]:
        raise InputError(f"--set {chosen} takes --masks {' or '.join(SETS[chosen]['masks'])}, not {masks}.")
    _check_masks(masks, given)
    lesions = None if masks == "given" else _counts(given.get("lesions"), chosen)
    if chosen == "copy_paste" and "texture" in given:
        raise InputError("--set copy_paste copies the texture of real lesions: it takes no --texture.")
    texture, weights = _texture(given.get("texture", "none" if chosen == "copy_paste" else "random"))
    own, masks_own = _split_overrides(given.get("overrides", {}))
    numbers = {"cases_per_scan": 1, "batch_size": 4, "group_size": 4, "threads": 1}
    options = SynthesisOptions(
        input=_path(given["input"]),
        output=_path(given["output"]),
        organ_mask=_path(given.get("organ_mask")),
        organ_labels=_labels(given.get("organ_labels")),
        bundle=str(given["bundle"]),
        config=_words(given.get("config", ())),
        masks=masks,
        mask_bundle=str(given.get("mask_bundle", "diffmask")),
        mask_config=_words(given["mask_config"]) if "mask_config" in given else None,
        library=_path(given.get("library")),
        set=chosen,
        lesions=lesions,
        radius_mm=_radii(given.get("radius")),
        texture=texture,
        texture_weights=weights,
        layout=str(given.get("layout", "plain")),
        title=str(given.get("title", "LeFusion")),
        seed=_whole("seed", given.get("seed", 0), least=None),
        panel=as_flag(given.get("panel", True), "panel"),
        overrides=own,
        mask_overrides=masks_own,
        **{key: _whole(key, given.get(key, default)) for key, default in numbers.items()},
    )
    source, target = Path(options.input), Path(options.output)
    if source == target or source in target.parents:
        raise InputError(f"output {options.output} lies within the input {options.input}: it would be taken for scans.")
    return options


def fix_by_set(options: SynthesisOptions, joint: bool, cases_given: bool) -> SynthesisOptions:
    """The options of a set for a bundle that paints all lesions of a scan jointly, as one.

    Args:
        joint: see :class:`~custom_components.labels.LesionLabels`.
        cases_given: whether ``cases_per_scan`` was asked for.

    Raises:
        InputError: where a set or the bundle leaves no choice of what was asked for.
    """
    if not joint:
        return options
    if options.copies_values:
        raise InputError(
            f"--set copy_paste is not for bundle {options.bundle}, which paints all of a scan as one lesion."
        )
    if options.set is not None:
        cases = SETS[options.set]["joint_cases"]
        if cases_given and options.cases_per_scan != cases:
            raise InputError(f"--set {options.set} makes {cases} cases of a scan with bundle {options.bundle}.")
        return replace(options, cases_per_scan=cases, lesions=options.lesions and (1, 1))
    if options.lesions not in (None, (1, 1)):
        raise InputError(f"bundle {options.bundle} paints all of a scan as one lesion: --lesions must be 1.")
    return options


def _check_masks(masks: str, given: Mapping[str, Any]) -> None:
    """Options that the source of the masks leaves without meaning, or cannot do without."""
    if masks == "given":
        for key in ("lesions", "radius", "organ_mask", "organ_labels", "library", "mask_config"):
            if key in given:
                raise InputError(f"--{key} has no meaning where the masks are given: they say where lesions lie.")
    elif masks == "copy" and "library" not in given:
        raise InputError("--masks copy needs --library, a data set of real lesions.")
    elif masks != "copy" and "library" in given:
        raise InputError(f"--library is for --masks copy, not {masks}.")


def _counts(value: Any, chosen: str | None) -> tuple[int, int]:
    fixed = SETS[chosen]["lesions"] if chosen else None
    if value is None:
        return fixed or (1, 1)
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", str(value).strip())
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise InputError(f"lesions must be a whole number above 0 or a range such as 1-3, got {value!r}.")
    if fixed and (least, most) != fixed:
        wanted = str(fixed[0]) if fixed[0] == fixed[1] else f"{fixed[0]}-{fixed[1]}"
        raise InputError(f"--set {chosen} takes --lesions {wanted}, not {value}.")
    return least, most


def _radii(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    number = r"(\d+(?:\.\d*)?)"
    match = re.fullmatch(rf"{number}(?:-{number})?", str(value).strip())
    low, high = (float(match[1]), float(match[2] or match[1])) if match else (0.0, 0.0)
    if not 0 < low <= high:
        raise InputError(f"radius must be a number of mm above 0 or a range such as 3-15, got {value!r}.")
    return low, high


def _texture(value: Any) -> tuple[Any, dict[str, float] | None]:
    """The request, and the weights where it is a list of them: ``solid:75,part_solid:20``."""
    if not isinstance(value, str) or ":" not in value or value.lstrip().startswith("{"):
        return (list(value) if isinstance(value, tuple) else value), None
    weights = {}
    for part in value.split(","):
        name, _, weight = part.partition(":")
        try:
            weights[name.strip()] = float(weight)
        except ValueError as error:
            raise InputError(
                f"texture must be a name or weights such as solid:75,part_solid:25, got {value!r}."
            ) from error
    return "random", weights


def _split_overrides(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of the painting config, and those of the mask config, which come with ``mask_`` before them."""
    own, masks = {}, {}
    for key, value in as_overrides(given).items():
        name = key.removeprefix("mask_")
        taken = OWN_MASK_KEYS if name != key else ()
        if name in (*OWN_KEYS, *taken):
            raise InputError(f"--{key} is what synthesize sets itself.")
        (own if name == key else masks)[name] = value
    return own, masks


def _whole(key: str, value: Any, least: int | None = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise InputError(
            f"{key} must be a whole number{'' if least is None else f' of at least {least}'}, got {value!r}."
        )
    return value


def _labels(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
        raise InputError(f"organ_labels must be whole numbers above 0, got {value!r}.")
    return values


def _words(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):  # fire leaves a list that holds a path as it was typed
        return tuple(part.strip(" '\"") for part in value.strip("[] ").split(",") if part.strip())
    return tuple(str(part) for part in value)


def _path(value: Any) -> str | None:
    return None if value is None else str(Path(str(value)).absolute())
