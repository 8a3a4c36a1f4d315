"""Federated averaging of a bundle's training: sites train on their own cases and exchange weights alone.

The sites are MONAI's own federated clients (:class:`monai.fl.client.MonaiAlgo`), as a federated learning system such as
NVFlare runs them on machines of their own; here they take turns in one process.
McMahan et al., *Communication-efficient learning of deep networks from decentralized data*, AISTATS 2017.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, WeightType
from monai.fl.utils.exchange_object import ExchangeObject
from torch import Tensor
from tqdm import tqdm

from .errors import InputError

__all__ = ["Round", "Site", "average_weights", "federate", "open_site"]

OVERLAY = "configs/federated.json"


@dataclass(frozen=True)
class Site:
    """A participant: its name, its client, and how many cases it trains on."""

    name: str
    algo: MonaiAlgo
    cases: int


@dataclass(frozen=True)
class Round:
    """What a round ended with: its number (0 before any training), the common weights, each site's metrics on them."""

    number: int
    weights: dict[str, Tensor]
    metrics: dict[str, dict[str, float]]


def open_site(
    name: str,
    bundle: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    local_epochs: int = 1,
    overlays: Sequence[str | Path] = (),
    **overrides: Any,
) -> Site:
    """A site on a bundle's folder, ready to train on one data set.

    Args:
        name: what the site is called.
        bundle: the bundle's folder, whose ``configs/federated.json`` goes over its ``train.json``.
        dataset_dir: the site's own cases; it reads no others.
        output_dir: the site's checkpoints and curves.
        local_epochs: epochs of a round.
        overlays: further configs, merged before ``federated.json``; relative ones lie in the bundle.
        overrides: any keys of the configs.

    Raises:
        InputError: where the bundle is not made for it, or the data set holds no cases.
    """
    root = Path(bundle).resolve()
    if not (root / OVERLAY).is_file():
        raise InputError(f"bundle {root} has no {OVERLAY}, so its training cannot be federated.")
    if not Path(dataset_dir).exists():
        raise InputError(f"dataset_dir {dataset_dir} of site {name} does not exist.")
    if str(root) not in sys.path:  # MONAI's client finds the bundle's own code there alone
        sys.path.insert(1, str(root))
    configs = ["configs/train.json", *map(str, overlays), OVERLAY]
    keys = {"dataset_dir": str(dataset_dir), "output_dir": str(output_dir), **overrides}
    algo = MonaiAlgo(
        str(root),
        local_epochs=local_epochs,
        send_weight_diff=False,
        config_train_filename=configs,
        train_kwargs=dict(keys),
        config_evaluate_filename=configs,
        eval_kwargs=dict(keys),
        best_model_filepath=str(Path(output_dir).resolve() / "checkpoints" / "model.pt"),
        final_model_filepath=str(Path(output_dir).resolve() / "checkpoints" / "model_final.pt"),
    )
    algo.initialize({ExtraItems.CLIENT_NAME: name})
    return Site(name, algo, len(algo.train_workflow.train_dataset_data))


def average_weights(states: Sequence[Mapping[str, Tensor]], cases: Sequence[int]) -> dict[str, Tensor]:
    """The mean of state dicts, each weighted by its number of cases; integer tensors are those of the first.

    Raises:
        InputError: where there is nothing to average, or the states do not have the same keys.
    """
    if not states or len(states) != len(cases) or sum(cases) <= 0 or min(cases) < 0:
        raise InputError(f"cannot average {len(states)} state dicts by the numbers of cases {list(cases)}.")
    if any(state.keys() != states[0].keys() for state in states):
        raise InputError("cannot average state dicts of different networks.")
    shares = [count / sum(cases) for count in cases]
    return {key: _mean([state[key] for state in states], shares) for key in states[0]}


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0].clone()
    total = sum(share * tensor.double() for share, tensor in zip(shares, tensors, strict=True))
    return total.to(tensors[0].dtype)


def federate(sites: Sequence[Site], rounds: int, progress: bool = True) -> Iterator[Round]:
    """Trains by federated averaging; yields the state before the first round, then the one after each.

    In a round every site starts from the common weights, trains for its local epochs and sends its weights; their mean,
    weighted by the sites' numbers of cases, is what they have in common next. All sites start from the first one's
    weights. A site keeps its optimizer's state from round to round, and never sends it.

    Raises:
        InputError: where a number of rounds below 1, or no site is given.
    """
    if rounds < 1 or not sites:
        raise InputError(f"federated training needs at least one site and one round, got {len(sites)} and {rounds}.")
    common = _copied(sites[0].algo.get_weights())
    yield Round(0, common, _evaluate(sites, common))
    with tqdm(total=rounds * len(sites), desc="federated", disable=not progress) as bar:
        for number in range(1, rounds + 1):
            states = []
            for site in sites:
                bar.set_postfix(round=number, site=site.name)
                site.algo.train(_sent(common))
                states.append(_copied(site.algo.get_weights()))
                bar.update()
            common = average_weights(states, [site.cases for site in sites])
            yield Round(number, common, _evaluate(sites, common))


def _evaluate(sites: Sequence[Site], weights: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Each site's metrics on its own validation cases."""
    metrics = {site.name: site.algo.evaluate(_sent(weights)).metrics for site in sites}
    return {name: {key: float(value) for key, value in found.items()} for name, found in metrics.items()}


def _sent(weights: Mapping[str, Tensor]) -> ExchangeObject:
    """Weights on their way to a site."""
    copies = {key: value.clone() for key, value in weights.items()}
    return ExchangeObject(weights=copies, weight_type=WeightType.WEIGHTS)


def _copied(sent: ExchangeObject) -> dict[str, Tensor]:
    """Weights that a site has sent: copies, since in one process a client hands out the very tensors it trains."""
    return {key: torch.as_tensor(value).detach().cpu().clone() for key, value in sent.weights.items()}
