"""Federated training of a bundle, simulated: sites with data of their own take turns on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from custom_components.bundle_configs import as_overrides, bundle_root, check_overrides, config_files
from custom_components.errors import InputError, as_flag
from custom_components.federation import Round, Site, open_site
from custom_components.federation import federate as run_rounds
from custom_components.files import check_writable, write_atomically

__all__ = ["federate"]


def federate(
    *sites: str,
    output_dir: str,
    rounds: int = 2,
    local_epochs: int = 1,
    bundle: str = "lefusion_lidc",
    config: str | Sequence[str] = (),
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Train a bundle on several data sets by federated averaging, each site on its own cases alone.

    OUTPUT_DIR gets model.pt (the common weights after the latest round; for --weights), rounds.json (each site's number
    of cases, and its validation loss after every round), and site_1, site_2, ... with each site's own files.

    Args:
        sites: two or more data sets, each a folder as ``lefusion run training --dataset_dir`` takes it.
        output_dir: where the results go.
        rounds: how often the sites' weights are averaged.
        local_epochs: epochs that a site trains between two averagings.
        bundle: a bundle's name or folder.
        config: overlays merged over the training's config, by name or path: train_cpu, say.
        overwrite: replace earlier results in OUTPUT_DIR.
        overrides: any key of the configs, for all sites, e.g. --batch_size 4 --pretrained model.pt.

    Raises:
        InputError: for fewer than two sites, one given twice, numbers below 1, results that are there already, an
            unknown bundle, overlay or key, and for whatever the bundle finds wrong with a data set.
    """
    output, root = Path(str(output_dir)), bundle_root(bundle)
    folders = [Path(str(site)) for site in sites]
    _check(folders, output, rounds, local_epochs, as_flag(overwrite, "overwrite"))
    files, overrides = config_files(root, "training", config), as_overrides(overrides)
    if "resume" in overrides:
        raise InputError("resume is not for a federation: one that was interrupted starts anew.")
    for key in ("dataset_dir", "output_dir", "max_epochs"):
        if key in overrides:
            raise InputError(f"{key} is not for a federation: sites, output_dir, rounds and local_epochs say it.")
    check_overrides(files, overrides)
    overrides["max_epochs"] = rounds * local_epochs  # over which schedules of the learning rate run
    overlays = [Path(file).resolve() for file in files[1:]]  # or a site would look for them in the bundle
    opened = [
        open_site(f"site_{number}", root, folder, output / f"site_{number}", local_epochs, overlays, **overrides)
        for number, folder in enumerate(folders, 1)
    ]
    done: list[Round] = []
    for round_ in run_rounds(opened, rounds):
        done.append(round_)
        _write(output, folders, opened, done)
        losses = "  ".join(f"{name} {metrics['val_loss']:.4f}" for name, metrics in round_.metrics.items())
        print(f"round {round_.number}: validation loss  {losses}")
    print(f"common weights in {output / 'model.pt'}")


def _check(folders: Sequence[Path], output: Path, rounds: int, local_epochs: int, overwrite: bool) -> None:
    if len(folders) < 2:
        raise InputError(f"a federation needs at least two sites, got {len(folders)}.")
    for number, folder in enumerate(folders):
        if not folder.exists():
            raise InputError(f"site {folder} does not exist.")
        if folder.resolve() in {other.resolve() for other in folders[:number]}:
            raise InputError(f"site {folder} is given twice.")
    for name, value in (("rounds", rounds), ("local_epochs", local_epochs)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if (output / "rounds.json").exists() and not overwrite:
        raise InputError(f"{output / 'rounds.json'} exists already: pass --overwrite true or another --output_dir.")
    check_writable(output)


def _write(output: Path, folders: Sequence[Path], sites: Sequence[Site], done: Sequence[Round]) -> None:
    content = {
        "sites": {
            site.name: {"dataset_dir": str(folder), "training_cases": site.cases}
            for site, folder in zip(sites, folders, strict=True)
        },
        "rounds": [{"round": round_.number, "metrics": round_.metrics} for round_ in done],
    }
    weights = done[-1].weights
    write_atomically(output / "model.pt", lambda path: torch.save(weights, path))
    write_atomically(output / "rounds.json", lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))
