"""Configs and overlays of every bundle: what they name exists, what they set is used, and they agree."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from bundle_facts import (
    FACTS,
    MONAI_KEYS,
    WORKFLOWS,
    bundle_fixture,  # noqa: F401 (a fixture)
    configs_of,
    every,
    overlaid,
    read,
    targets,
)
from monai.bundle.config_item import ComponentLocator

# What training and inference each have in their own way; all else that both have must be the same.
OWN_KEYS = {"imports", "dataset_dir", "output_dir", "batch_size", "network", "inferer", "cases", "run"}


@pytest.mark.parametrize(("name", "path"), every(lambda name: sorted(configs_of(name).glob("*.json"))))
def test_config_is_json_and_everything_it_names_exists(name, path):
    monai = ComponentLocator()
    for target in targets(json.loads(path.read_text())):
        if "." in target:
            module, _, attribute = target.rpartition(".")
            assert hasattr(import_module(module), attribute), target
        else:
            assert monai.get_component_module_name(target), target


@pytest.mark.parametrize(("name", "configs"), every(overlaid))
def test_overlay_merges_over_what_it_is_for(name, configs):
    read(name, *configs)


def keys_of(name: str, overlay: str) -> set[str]:
    """The top-level keys that an overlay sets."""
    return {key.split("#")[0] for key in json.loads((configs_of(name) / f"{overlay}.json").read_text())}


def unused(name: str, configs: list[str], keys: set[str]) -> set[str]:
    """Those of the keys that no other key of merged configs uses, nor MONAI."""
    text = json.dumps(read(name, *configs))
    return {key for key in keys if f"@{key}" not in text and f"%{key}" not in text} - MONAI_KEYS


@pytest.mark.parametrize(("name", "overlay"), every(lambda name: list(FACTS[name].overlays)))
def test_overlay_only_changes_what_is_there(name, overlay):
    """A key that all configs below lack, and the overlay itself does not use, MONAI would accept to no effect."""
    bases = FACTS[name].overlays[overlay]
    new = keys_of(name, overlay) - MONAI_KEYS - set().union(*(read(name, *base) for base in bases))
    text = (configs_of(name) / f"{overlay}.json").read_text()
    assert {key for key in new if f"@{key}" not in text} == set()


@pytest.mark.parametrize(("name", "overlay"), every(lambda name: list(FACTS[name].overlays)))
def test_overlay_has_no_dead_keys(name, overlay):
    """Every key is used by another one, or by MONAI, in one of the workflows that the overlay is for."""
    keys = keys_of(name, overlay)
    dead = [unused(name, [*base, overlay], keys) for base in FACTS[name].overlays[overlay]]
    assert set.intersection(*dead) == set()


@pytest.mark.parametrize(("name", "configs"), every(lambda name: list(WORKFLOWS)))
def test_config_has_no_dead_keys(name, configs):
    """Every key of the last config is used by another one, or by MONAI."""
    assert unused(name, configs, keys_of(name, configs[-1])) == set()


def test_training_and_inference_agree(bundle):
    training, inference = read(bundle, "train"), read(bundle, "inference")
    shared = set(training) & set(inference) - OWN_KEYS
    assert shared >= {"num_train_timesteps", "context", "prediction_type", "spatial_size", "network_def", "schedule"}
    assert {key for key in shared if training[key] != inference[key]} == set()
