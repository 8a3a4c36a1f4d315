"""Settings that a run cannot use: textures, sampling, outputs and weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from faults import registrar
from lung_runs import save_tiny_weights
from small_chest import save_case

FAULTS: list[Any] = []
fault = registrar(FAULTS)


# ---------------------------------------------------------------------------------------------------- textures


@fault("texture", "'sold'", "ground_glass", "part_solid", "solid", "random", "none")
def texture_unknown(folder):
    return {**save_case(folder), "texture": "sold"}


@fault("texture", "'sold'", "solid")
def texture_of_one_lesion_unknown(folder):
    return {**save_case(folder), "texture": ["solid", "sold"]}


@fault("texture", "3", "2 lesions")
def textures_for_other_than_the_lesions(folder):
    return {**save_case(folder), "texture": ["solid"] * 3}


@fault("histogram", "16", "15")
def histogram_too_short(folder):
    return {**save_case(folder), "texture": [1 / 15] * 15}


@fault("histogram", "16", "17")
def histogram_too_long(folder):
    return {**save_case(folder), "texture": [1 / 17] * 17}


@fault("histogram", "negative", "-0.5")
def histogram_negative(folder):
    return {**save_case(folder), "texture": [1.5, -0.5, *[0.0] * 14]}


@fault("histogram", "sum to 1", "0.8")
def histogram_of_another_sum(folder):
    return {**save_case(folder), "texture": [0.05] * 16}


@fault("histogram", "NaN")
def histogram_with_nan(folder):
    return {**save_case(folder), "texture": [float("nan"), *[1 / 15] * 15]}


@fault("histogram", "sum to 1", "0.8")
def histogram_of_the_second_lesion_of_another_sum(folder):
    return {**save_case(folder), "texture": ["solid", [0.05] * 16]}


@fault("texture presets", "nowhere.json")
def presets_missing(folder):
    return {**save_case(folder), "texture_presets": str(folder / "nowhere.json")}


@fault("texture weight", "'sold'")
def texture_weight_of_an_unknown_texture(folder):
    return {**save_case(folder), "texture_weights": {"sold": 1}}


@fault("perturbation", "1.5")
def perturbation_too_large(folder):
    return {**save_case(folder), "texture_perturbation": 1.5}


@fault("replay", "nowhere.json")
def replay_missing(folder):
    return {**save_case(folder), "replay": str(folder / "nowhere.json")}


@fault("replay", "other.json")
def replay_of_something_else(folder):
    (folder / "other.json").write_text('{"lesions": [1, 2]}')
    return {**save_case(folder), "replay": str(folder / "other.json")}


@fault("replay", "part.json", "seed")
def replay_of_a_record_that_lacks_the_seeds(folder):
    spec = {"lesion_class": "lesion", "texture": "solid", "histogram": [1 / 16] * 16}
    lesions = [{"spec": {"lesion": number, **spec}} for number in (1, 2)]
    (folder / "part.json").write_text(json.dumps({"lesions": lesions}))
    return {**save_case(folder), "replay": str(folder / "part.json")}


@fault("record.json", "1 lesion", "2")
def replay_of_another_number_of_lesions(folder):
    spec = {"lesion": 1, "lesion_class": "lesion", "texture": "solid", "histogram": [1 / 16] * 16, "seed": 1}
    (folder / "record.json").write_text(json.dumps({"lesions": [{"spec": spec}]}))
    return {**save_case(folder), "replay": str(folder / "record.json")}


# ------------------------------------------------------------------------------------------ settings and weights


def setting(key: str, value: Any, *told: str) -> None:
    """Registers one bad value of a key."""

    def make(folder: Path) -> dict[str, Any]:
        return {**save_case(folder), key: value}

    make.__name__ = f"{key} {value}"
    fault(key, str(value), *told)(make)


setting("num_inference_steps", 0, "from 1 to 300")
setting("num_inference_steps", -3, "from 1 to 300")
setting("num_inference_steps", 301, "from 1 to 300")
setting("num_inference_steps", 2.5, "whole number")
setting("num_inference_steps", "ten", "whole number")
setting("jump_length", 0)
setting("jump_n_sample", 0)
setting("eta", 1.5)
setting("context", "dirty", "diffused", "clean")
setting("spatial_size", [20, 20, 20], "8")
setting("prediction_type", "noise")
setting("hu_window", [400, -1000])


@fault("output_dir", "taken")
def output_dir_is_a_file(folder):
    (folder / "taken").touch()
    return {**save_case(folder), "output_dir": str(folder / "taken")}


@fault("weights", "nowhere.pt does not exist")
def weights_missing(folder):
    return {**save_case(folder), "weights": str(folder / "nowhere.pt")}


@fault("weights", "torn.pt")
def weights_unreadable(folder):
    path = save_tiny_weights(folder / "torn.pt")
    path.write_bytes(path.read_bytes()[:1000])
    return {**save_case(folder), "weights": str(path)}


def with_weights(folder: Path, change: Callable[[dict], Any]) -> dict[str, Any]:
    path = save_tiny_weights(folder / "odd.pt")
    state = dict(torch.load(path, weights_only=True))
    change(state)
    torch.save(state, path)
    return {**save_case(folder), "weights": str(path)}


@fault("odd.pt", "lacks", "'bin_height.bias'")
def weights_that_lack_a_key(folder):
    return with_weights(folder, lambda state: state.pop("bin_height.bias"))


@fault("odd.pt", "'surplus'", "network lacks")
def weights_with_a_key_too_many(folder):
    return with_weights(folder, lambda state: state.update(surplus=torch.zeros(1)))


@fault("odd.pt", "'bin_embedding'", "(16, 9)", "(16, 8)")
def weights_of_another_size(folder):
    return with_weights(folder, lambda state: state.update(bin_embedding=torch.zeros(16, 9)))
