"""A federation of two sites on an unpacked bundle, watched: which files each site opens, and what it sends.

``python federated_sites.py BUNDLE SITE_A SITE_B OUTPUT SETTINGS``, with the bundle on the path, prints what was seen as
JSON. It needs nothing but what the bundle itself needs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from monai.fl.utils.constants import ExtraItems, ModelType

import custom_components.federation
from custom_components.federation import federate, open_site

bundle, folders, output, settings = sys.argv[1], sys.argv[2:4], Path(sys.argv[4]), json.loads(sys.argv[5])
active, opened, sent = None, {}, {}


def watch(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str):
        for folder in folders:
            if arguments[0].startswith(f"{folder}/"):
                opened.setdefault(str(active), set()).add(folder)


def by(site: str, function):
    """The function, which the site is taken to run."""

    def run(*arguments):
        global active
        active = site
        try:
            return function(*arguments)
        finally:
            active = None

    return run


sys.addaudithook(watch)
sites = []
for folder in folders:
    options = (bundle, folder, output / Path(folder).name)
    site = by(folder, lambda name, opts: open_site(name, *opts, **settings))(Path(folder).name, options)
    site.algo.train, site.algo.evaluate = by(folder, site.algo.train), by(folder, site.algo.evaluate)
    sites.append(site)
    hand_out = site.algo.get_weights

    def get_weights(extra=None, hand_out=hand_out, name=site.name):
        message = hand_out(extra)
        sent.setdefault(name, []).append({key: value.clone() for key, value in message.weights.items()})
        return message

    site.algo.get_weights = get_weights

rounds = list(federate(sites, rounds=2, progress=False))


def difference(first: dict, second: dict) -> float:
    return max((first[key].double() - second[key].double()).abs().max().item() for key in first)


def mean_of(states: list[dict]) -> dict:
    """The mean by the sites' numbers of cases, written down anew."""
    total = sum(site.cases for site in sites)
    weighted = [
        {key: site.cases / total * state[key].double() for key in state}
        for site, state in zip(sites, states, strict=True)
    ]
    return {key: sum(state[key] for state in weighted) for key in weighted[0]}


first, second = sites
# The first thing that the first site sends is where all begin.
of_round = [[sent[first.name][number], sent[second.name][number - 1]] for number in (1, 2)]
final = first.algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.FINAL_MODEL}).weights
print(
    json.dumps(
        {
            "module": custom_components.federation.__file__,
            "opened": {site: sorted(found) for site, found in opened.items()},
            "cases": [site.cases for site in sites],
            "metrics": [round_.metrics for round_ in rounds],
            "from_mean": [difference(mean_of(states), rounds[n].weights) for n, states in enumerate(of_round, 1)],
            "between_sites": [difference(*states) for states in of_round],
            "changed": [difference(rounds[n].weights, rounds[n - 1].weights) for n in (1, 2)],
            "at_the_end": [difference(site.algo.evaluator.network.state_dict(), rounds[2].weights) for site in sites],
            "final_model": difference(final, of_round[1][0]),
            "tensors": all(isinstance(value, torch.Tensor) for value in rounds[2].weights.values()),
        }
    )
)
