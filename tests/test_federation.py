"""Federated training: sites exchange weights and nothing else, and end with the same."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import TINY_NETWORK, command, options, read_configs, save_nifti
from small_chest import balls, chest
from test_zoo_lone import alone
from test_zoo_premerge import NAMES
from zoo_bundles import BUNDLES, NAME, pack, small_bundle

from custom_components.errors import InputError
from custom_components.federation import average_weights, open_site
from lefusion_scripts.federate import federate

TINY = {
    **{f"network_def#{key}": value for key, value in TINY_NETWORK.items()},
    "batch_size": 2,
    "repeats": 1,
    "val_repeats": 1,
    "spatial_size": [16, 16, 16],
    "device": "cpu",
}


def save_site(folder: Path, names: str, hu: float) -> Path:
    """A patient a letter, each with a lesion of about so many HU."""
    for seed, name in enumerate(names):
        mask = balls((20, 20, 20), [((10, 10, 10), 4)])
        values = np.where(mask, np.random.default_rng(seed).normal(hu, 40, mask.shape), chest(mask.shape))
        save_nifti(folder / "images" / f"{name}.nii.gz", values.astype(np.int16))
        save_nifti(folder / "labels" / f"{name}.nii.gz", mask.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> list[Path]:
    """Two sites with different patients and different lesions; the second has more of them."""
    folder = tmp_path_factory.mktemp("sites")
    return [save_site(folder / "first", "abcd", -600), save_site(folder / "second", "efghijk", -100)]


# -------------------------------------------------------------------------------------------------- the average


def test_average_is_weighted_by_the_number_of_cases():
    states = [
        {"w": torch.tensor([1.0, 0.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([5.0, 4.0]), "n": torch.tensor(9)},
    ]
    average = average_weights(states, [3, 1])
    torch.testing.assert_close(average["w"], torch.tensor([2.0, 1.0]))
    assert average["n"].item() == 3  # a counter has no mean
    assert average["n"] is not states[0]["n"]


def test_average_keeps_the_type_and_equal_weights_to_the_bit():
    state = {"w": torch.randn(50, generator=torch.Generator().manual_seed(0))}
    average = average_weights([state, state, state], [1, 5, 1])
    assert average["w"].dtype == torch.float32
    assert torch.equal(average["w"], state["w"])


@pytest.mark.parametrize(
    ("states", "cases"),
    [([], []), ([{"a": torch.ones(1)}], [0]), ([{"a": torch.ones(1)}, {"b": torch.ones(1)}], [1, 1])],
)
def test_average_of_nothing_or_of_different_networks_is_refused(states, cases):
    with pytest.raises(InputError, match="cannot average"):
        average_weights(states, cases)


# --------------------------------------------------------------------------------- two sites on a packed bundle


@pytest.fixture(scope="module")
def seen(lone_environment, sites, tmp_path_factory) -> dict:
    """What happened in two rounds on an unpacked bundle, in an environment without this project."""
    folder = tmp_path_factory.mktemp("federation")
    with zipfile.ZipFile(pack(small_bundle(folder / "repository"), folder / "dist")) as archive:
        archive.extractall(folder / "unpacked")
    unpacked, script = folder / "unpacked" / NAME, Path(__file__).with_name("federated_sites.py")
    arguments = ["-W", "ignore", script, unpacked, *sites, folder / "out", json.dumps(TINY)]
    process = alone(lone_environment, *arguments, cwd=folder, PYTHONPATH=str(unpacked))
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert Path(found["module"]).is_relative_to(folder / "unpacked")
    return found


@pytest.mark.integration
def test_site_reads_its_own_cases_and_no_others(seen, sites):
    assert seen["opened"] == {str(folder): [str(folder)] for folder in sites}


@pytest.mark.integration
def test_common_weights_are_the_mean_of_what_the_sites_send(seen):
    assert seen["cases"] == [3, 5]
    assert max(seen["from_mean"]) < 1e-6
    assert min(seen["between_sites"]) > 1e-4  # they did learn different things
    assert seen["tensors"]


@pytest.mark.integration
def test_every_round_changes_the_weights_and_the_loss_and_sites_end_with_the_same(seen):
    assert min(seen["changed"]) > 1e-5
    assert seen["at_the_end"] == [0, 0]
    for site in ("first", "second"):
        losses = [metrics[site]["val_loss"] for metrics in seen["metrics"]]
        assert len(set(losses)) == 3
        assert np.isfinite(losses).all()


@pytest.mark.integration
def test_final_model_of_a_site_can_be_asked_for(seen):
    assert seen["final_model"] == 0


# -------------------------------------------------------------------------------------------------- the command


@pytest.mark.integration
def test_command_writes_weights_that_the_bundle_loads_and_a_record_of_the_rounds(sites, tmp_path):
    (tmp_path / "mine.json").write_text('{"repeats": 1}')  # an overlay that lies where the command is run
    arguments = ["federate", *sites, "--output_dir", "out", "--rounds", "1", "--config", "mine.json"]
    arguments += options(**{key: value for key, value in TINY.items() if key != "repeats"})
    process = command(*arguments, launcher=("-m", "lefusion_scripts.cli"), cwd=tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    assert "round 1: validation loss  site_1 0." in process.stdout
    record = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert [site["training_cases"] for site in record["sites"].values()] == [3, 5]
    assert [entry["round"] for entry in record["rounds"]] == [0, 1]
    parser = read_configs(BUNDLES / NAME, "inference")
    parser.update({key: value for key, value in TINY.items() if "#" in key})
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(tmp_path / "out" / "model.pt", weights_only=True))
    sent = [
        torch.load(tmp_path / "out" / site / "checkpoints" / "model_final.pt", weights_only=True)
        for site in ("site_1", "site_2")
    ]
    for key, value in average_weights(sent, [3, 5]).items():
        torch.testing.assert_close(network.state_dict()[key], value)


REFUSED = {
    "one site": (lambda a, b: ([a], {}), "at least two sites, got 1"),
    "a site that is not there": (lambda a, b: ([a, a / "none"], {}), "none does not exist"),
    "a site twice": (lambda a, b: ([a, a / ".." / a.name], {}), "is given twice"),
    "no round": (lambda a, b: ([a, b], {"rounds": 0}), "rounds must be a whole number of at least 1, got 0"),
    "half an epoch": (lambda a, b: ([a, b], {"local_epochs": 0.5}), "local_epochs must be a whole number"),
    "unknown key": (lambda a, b: ([a, b], {"batchsize": 1}), "batchsize"),
    "epochs": (lambda a, b: ([a, b], {"max_epochs": 1}), "max_epochs is not for a federation"),
    "going on": (lambda a, b: ([a, b], {"resume": True}), "resume is not for a federation"),
    "unknown bundle": (lambda a, b: ([a, b], {"bundle": "lefusion"}), "bundle lefusion is neither"),
}


@pytest.mark.parametrize(("given", "sentence"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_before_any_work(sites, tmp_path, given, sentence):
    folders, settings = given(*sites)
    with pytest.raises(InputError, match=sentence):
        federate(*map(str, folders), output_dir=str(tmp_path / "out"), **settings)
    assert not (tmp_path / "out").exists()


def test_earlier_results_are_refused(sites, tmp_path):
    (tmp_path / "rounds.json").write_text("{}")
    with pytest.raises(InputError, match=r"rounds\.json exists already: pass --overwrite true"):
        federate(*map(str, sites), output_dir=str(tmp_path))


def test_bundle_that_is_not_made_for_it_is_refused(sites, tmp_path):
    (tmp_path / "configs").mkdir()
    with pytest.raises(InputError, match=r"has no configs/federated\.json"):
        open_site("a", tmp_path, sites[0], tmp_path / "out")


# -------------------------------------------------------------------------------------------------- the overlay


@pytest.mark.parametrize("name", [name for name in NAMES if (BUNDLES / name / "configs" / "federated.json").is_file()])
def test_overlay_trains_and_measures_the_very_network_whose_weights_are_exchanged(name):
    config = read_configs(BUNDLES / name, "train", "federated")
    assert config["ema_network"] == "@network"
    assert "ema_handler" not in config["train#trainer#train_handlers"]
    assert config["validate#evaluator#network"] == "@ema_network"
    assert "val_loss" in config["validate#key_metric"]
