"""Which config files a command takes for a workflow, however the overlays are typed."""

from __future__ import annotations

from pathlib import Path

import fire
import pytest
import torch
from bundle_runs import BUNDLES

from custom_components.bundle_configs import as_overrides, check_overrides, config_files
from custom_components.errors import InputError

ROOT = BUNDLES / "lefusion_emidec"
CONFIGS = ROOT / "configs"


@pytest.fixture
def network(tmp_path) -> Path:
    """An overlay outside the bundle, as an imported checkpoint has one."""
    path = tmp_path / "some path" / "network.json"
    path.parent.mkdir()
    path.write_text("{}")
    return path


def test_a_workflow_s_own_configs_come_first_and_overlays_in_the_order_they_are_given(network):
    assert config_files(ROOT, "inference") == [str(CONFIGS / "inference.json")]
    assert config_files(ROOT, "evaluate", ["diffused", "mi_only.json", str(network)]) == [
        str(CONFIGS / "train.json"),
        str(CONFIGS / "evaluate.json"),
        str(CONFIGS / "diffused.json"),
        str(CONFIGS / "mi_only.json"),
        str(network),
    ]


@pytest.mark.parametrize(
    "typed",
    [
        "[published,{network}]",
        "[ published , {network} ]",
        "published,{network}",
        "published, {network},",
        "['published', '{network}']",
        '["published", "{network}"]',
    ],
)
def test_list_with_a_path_in_it_is_a_list_as_it_was_typed(network, typed):
    expected = [str(CONFIGS / name) for name in ("inference.json", "published.json")] + [str(network)]
    assert config_files(ROOT, "inference", typed.format(network=network)) == expected


@pytest.mark.parametrize("typed", ["diffused,mi_only", "[diffused,mi_only]", "diffused,mi_only.json"])
def test_what_the_command_line_makes_of_a_list_of_names_is_that_list(typed):
    """Some of it becomes a list or a tuple on the way, some stays a string."""
    parsed = fire.Fire(
        lambda config: config_files(ROOT, "inference", config), ["--config", typed], serialize=lambda _: ""
    )
    assert [Path(path).stem for path in parsed] == ["inference", "diffused", "mi_only"]


@pytest.mark.parametrize("nothing", ["", "[]", (), []])
def test_no_overlay_is_no_overlay(nothing):
    assert config_files(ROOT, "training", nothing) == [str(CONFIGS / "train.json")]


@pytest.mark.parametrize("typed", ["difused", "[published,difused]", "published,difused", ["published", "difused"]])
def test_overlay_that_is_not_there_is_told_in_one_sentence(typed):
    with pytest.raises(InputError) as caught:
        config_files(ROOT, "inference", typed)
    assert str(caught.value) == f"config difused is neither a file nor one of {CONFIGS}."


def test_unknown_workflow_is_told_with_those_there_are():
    with pytest.raises(InputError, match="workflow must be one of training, inference, evaluate, got 'paint'"):
        config_files(ROOT, "paint")


def test_flags_within_a_list_are_flags_as_well():
    """fire reads [false,true] as two words, which would both count as true."""
    parsed = fire.Fire(
        lambda **words: as_overrides(words),
        ["--attention_levels", "[false,true]", "--resume", "true", "--texture", "solid,none"],
        serialize=lambda _: "",
    )
    assert parsed == {"attention_levels": [False, True], "resume": True, "texture": ("solid", "none")}


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_device_that_is_not_there_is_told_in_one_sentence(device):
    files = config_files(ROOT, "inference")
    with pytest.raises(InputError, match=f"device '{device}' cannot be used here: .+"):
        check_overrides(files, {"device": device})
    for usable in ("cpu", torch.device("cpu"), "$torch.device('cpu')"):
        check_overrides(files, {"device": usable})
