"""Loading weights strictly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_components.errors import InputError
from custom_components.weights import initialise, load_weights


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_weights_are_loaded_and_the_network_is_ready_for_use(tmp_path, wrap):
    trained = network()
    torch.save(wrap(trained.state_dict()), tmp_path / "model.pt")
    fresh = network()
    assert load_weights(fresh, tmp_path / "model.pt") is fresh
    assert not fresh.training
    for key, value in trained.state_dict().items():
        assert torch.equal(fresh.state_dict()[key], value)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s.pop("0.bias"), r"lacks the network's key '0\.bias'"),
        (lambda s: [s.pop(key) for key in ("1.weight", "0.bias")], r"lacks the network's key '0\.bias'"),
        (
            lambda s: s.update({"2.weight": torch.zeros(1)}),
            r"has the key '2\.weight', which the network lacks",
        ),
        (
            lambda s: s.update({"0.weight": torch.zeros(4, 5)}),
            r"'0\.weight' has shape \(4, 5\).*needs \(4, 3\)",
        ),
        (
            lambda s: (s.update({"1.weight": torch.zeros(1)}), s.pop("1.bias")),
            r"'1\.weight' has shape \(1,\)",
        ),
        (dict.clear, r"lacks the network's key '0\.weight'"),
        pytest.param(lambda s: s.update({"0.weight": 3}), r"'0\.weight'"),
    ],
)
def test_first_key_that_does_not_fit_is_named_and_nothing_is_loaded(tmp_path, change, fault):
    state = dict(network().state_dict())
    change(state)
    torch.save(state, tmp_path / "model.pt")
    fresh = network()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    with pytest.raises(InputError, match=fault) as error:
        load_weights(fresh, tmp_path / "model.pt")
    assert str(tmp_path / "model.pt") in str(error.value)
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in before.items())


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        load_weights(network(), tmp_path / "nowhere.pt")


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\x03\x04 torn"])
def test_file_that_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read weights from .*model\.pt"):
        load_weights(network(), tmp_path / "model.pt")


def test_torn_checkpoint_is_named(tmp_path):
    torch.save(network().state_dict(), tmp_path / "whole.pt")
    (tmp_path / "model.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:500])
    with pytest.raises(InputError, match=r"cannot read weights from .*model\.pt"):
        load_weights(network(), tmp_path / "model.pt")


def test_file_that_would_run_code_is_refused(tmp_path):
    torch.save(network(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"cannot read weights from .*model\.pt"):
        load_weights(network(), tmp_path / "model.pt")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"model": torch.zeros(2)}])
def test_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"not a state dict"):
        load_weights(network(), tmp_path / "model.pt")


# ----------------------------------------------------------------------------------------- starting from other weights


def test_what_fits_by_name_and_shape_is_taken_and_the_rest_stays(tmp_path):
    trained = dict(network().state_dict())
    trained["1.weight"] = torch.full((7,), 3.0)
    trained["9.weight"] = torch.zeros(2)
    del trained["0.bias"]
    torch.save(trained, tmp_path / "model.pt")
    fresh = network()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    assert initialise(fresh, tmp_path / "model.pt") is fresh
    after = fresh.state_dict()
    assert torch.equal(after["0.weight"], trained["0.weight"])
    assert torch.equal(after["0.bias"], before["0.bias"])
    assert torch.equal(after["1.weight"], before["1.weight"])
    assert fresh.training
    assert all(parameter.requires_grad for parameter in fresh.parameters())


def test_no_file_leaves_the_network_as_it_is():
    fresh = network()
    before = {key: value.clone() for key, value in fresh.state_dict().items()}
    assert initialise(fresh) is fresh
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in before.items())


def test_file_in_which_nothing_fits_is_refused(tmp_path):
    torch.save({"0.weight": torch.zeros(1), "x": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"nothing in .*model\.pt fits"):
        initialise(network(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"nowhere\.pt does not exist"):
        initialise(network(), tmp_path / "nowhere.pt")
