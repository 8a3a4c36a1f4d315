"""Make a training set of synthetic cases from a folder of scans."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from custom_components.errors import as_flag
from custom_components.synthesis.options import read_options
from custom_components.synthesis.runner import synthesise

FAILED = 3  # exit code where some cases failed


def synthesize(
    input: str,
    output: str,
    lesions: Any = None,
    radius: Any = None,
    texture: Any = None,
    seed: int = 0,
    masks: str | None = None,
    set: str | None = None,
    organ_mask: str | None = None,
    organ_labels: Any = None,
    library: str | None = None,
    cases_per_scan: int | None = None,
    layout: str = "plain",
    title: str | None = None,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    mask_bundle: str = "diffmask",
    mask_config: Any = None,
    batch_size: int = 4,
    group_size: int = 4,
    threads: int = 1,
    panel: bool = True,
    gallery: bool = True,
    progress: bool = True,
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Paint lesions into every scan of INPUT and write scans, masks, pictures and records to OUTPUT.

    The same command again completes what an interrupted run left; failing cases are skipped and listed, and the exit
    code is 3. Under torchrun the processes share the cases; the files do not depend on how many there are.

    Args:
        input: a scan (NIfTI, or a folder with one DICOM series); a folder with any of these at any depth; or a data set
            (images/, perhaps with labels/, or a datalist.json).
        output: folder of the set; manifest.jsonl lists what is in it.
        lesions: of each case: a number, or a range such as 1-3; 1 by default.
        radius: of the lesions' control spheres in mm: a number, or a range such as 3-15; as real lesions by default.
        texture: as in ``lefusion generate``, or weights of textures drawn at random: solid:75,part_solid:20.
        seed: run seed; the same seed gives the same set.
        masks: where masks come from: diffmask, handcrafted, copy (from --library) or given (the input's labels).
        set: a synthetic set of the paper: P', N', N'' or copy_paste.
        organ_mask: masks of the organ: a file, or a folder with a file for each scan; without it, lungs are found.
        organ_labels: the organ's labels in its file; all above 0 by default.
        library: data set of real lesions to copy.
        cases_per_scan: different cases made of each scan.
        layout: plain, monai, nnunet or bids.
        title: name of the set, where the layout asks for one.
        bundle, config: what paints: a bundle's name or folder, and overlays over its config.
        mask_bundle, mask_config: what draws masks, likewise.
        batch_size: lesions painted at a time.
        group_size: cases worked on together; their scans are in memory.
        threads: of PyTorch in each process.
        panel: draw a picture of each case.
        gallery: show the set on one page, gallery.html, at the end.
        progress: show a bar.
        overwrite: begin anew, without the cases that are there.
        overrides: any key of the painting bundle's inference config, e.g. --num_inference_steps 25; with mask_ before
            it, of the mask bundle's.
    """
    given = dict(locals())
    flags = {key: as_flag(given.pop(key), key) for key in ("overwrite", "progress", "gallery")}
    failures = synthesise(read_options(**given), cases_given=cases_per_scan is not None, **flags)
    if failures:
        count = f"{len(failures)} case{'s' * (len(failures) > 1)}"
        print(f"{count} failed; {output}/failed.jsonl lists what went wrong.", file=sys.stderr)
        sys.exit(FAILED)
