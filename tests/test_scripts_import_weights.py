"""Published checkpoints become a bundle's weights, or one sentence."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from published_format import published_checkpoint, random_network, save_published

from custom_components.errors import InputError
from custom_components.networks import FactorisedUNet
from custom_components.published import own_name
from custom_components.weights import load_weights
from lefusion_scripts import cli
from lefusion_scripts.import_weights import import_weights

KINDS = {
    "one class": {"in_channels": 1, "out_channels": 1, "condition_dim": 16},
    "two classes": {"in_channels": 2, "out_channels": 2, "condition_dim": 32},
    "no condition": {"in_channels": 2, "out_channels": 1, "condition_dim": 0},
    "other widths": {"width": 16, "multipliers": (1, 1, 3), "num_heads": 3, "head_dim": 4, "num_buckets": 16},
}


def imported(folder: Path) -> FactorisedUNet:
    """The network that the two written files describe."""
    parser = ConfigParser()
    parser.read_config(str(folder / "network.json"))
    return load_weights(parser.get_parsed_content("network_def"), folder / "model.pt")


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("kind", KINDS)
def test_architecture_and_weights_come_out_of_the_file(kind, tmp_path):
    model, ema = save_published(tmp_path / "file.pt", **KINDS[kind])
    import_weights(str(tmp_path / "file.pt"), str(tmp_path / "ema"))
    import_weights(str(tmp_path / "file.pt"), str(tmp_path / "model"), weights="model")
    assert same(imported(tmp_path / "ema"), ema)
    assert same(imported(tmp_path / "model"), model)
    network = imported(tmp_path / "ema")
    x = torch.randn(1, network.init_conv.in_channels, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network(x, torch.tensor([3])), ema(x, torch.tensor([3])))


@pytest.mark.parametrize("prefix", ["denoise_fn.", "denoise_fn.module.", "module.denoise_fn."])
def test_prefixes_of_wrappers_are_stripped(prefix, tmp_path):
    model, ema = random_network(0), random_network(1)
    torch.save(published_checkpoint(model, ema, prefix=prefix), tmp_path / "file.pt")
    import_weights(str(tmp_path / "file.pt"), str(tmp_path / "out"))
    assert same(imported(tmp_path / "out"), ema)
    assert json.loads((tmp_path / "out" / "network.json").read_text())["num_train_timesteps"] == 20


@pytest.mark.parametrize(
    ("published", "own"),
    [
        ("denoise_fn.module.downs.0.2.fn.fn.to_qkv.weight", "downs.0.2.to_qkv.weight"),
        ("denoise_fn.ups.1.3.fn.fn.fn.rotary_emb.freqs", "ups.1.3.rotary_emb.freqs"),
        ("module.denoise_fn.mid_temporal_attn.fn.norm.gamma", "mid_temporal_attn.norm.gamma"),
        ("denoise_fn.module.final_conv.0.block1.proj.weight", "final_conv.0.block1.proj.weight"),
    ],
)
def test_names_lose_their_wrappers(published, own):
    assert own_name(published) == own


def test_what_was_found_is_printed_and_the_weights_are_plain_tensors(tmp_path, capsys):
    save_published(tmp_path / "file.pt", T=30, **KINDS["two classes"])
    import_weights(str(tmp_path / "file.pt"), str(tmp_path / "out"))
    told = capsys.readouterr().out
    for part in ("ema, after 3000 training steps", "in_channels", "condition_dim", "32", "cosine, T = 30", "model.pt"):
        assert part in told
    state = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert {type(value) for value in state.values()} == {torch.Tensor}
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.pt", "network.json"]


def test_existing_files_are_only_replaced_on_request(tmp_path):
    _, ema = save_published(tmp_path / "file.pt")
    out = tmp_path / "out"
    out.mkdir()
    (out / "network.json").write_text("mine")
    with pytest.raises(InputError, match=r"network\.json exists"):
        import_weights(str(tmp_path / "file.pt"), str(out))
    assert [path.name for path in out.iterdir()] == ["network.json"]
    assert (out / "network.json").read_text() == "mine"
    import_weights(str(tmp_path / "file.pt"), str(out), overwrite=True)
    assert same(imported(out), ema)


class Attack:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def write_bad_file(path: Path, fault: str) -> None:
    content = published_checkpoint(random_network(0), random_network(1))
    ema = content["ema"]
    key = "denoise_fn.module.mid_block1.block1.proj.weight"
    if fault == "text":
        path.write_text("no checkpoint at all")
        return
    if fault == "attack":
        content["scaler"] = Attack(path.with_name("attacked"))
    elif fault == "no weights":
        content.pop("ema")
    elif fault == "list":
        content = [1, 2, 3]
    elif fault == "no tensors":
        content["ema"] = {"denoise_fn.module.init_conv.weight": "three"}
    elif fault == "another network":
        content["ema"] = {"denoise_fn.conv.weight": torch.zeros(3, 3)}
    elif fault == "lacking":
        ema.pop(key)
    elif fault == "too many":
        ema["denoise_fn.module.extra.weight"] = torch.zeros(3)
    elif fault == "shape":
        ema[key] = ema[key][:, :3].clone()
    elif fault == "scalar":
        ema["denoise_fn.module.init_conv.weight"] = torch.tensor(1.0)
    elif fault == "NaN":
        ema[key][0, 0, 0, 1, 1] = float("nan")
    elif fault == "overflow":
        ema["denoise_fn.module.final_conv.1.weight"].fill_(3e38)
    elif fault == "schedule":
        ema["betas"] = torch.linspace(1e-4, 0.02, 20)
    elif fault == "expanded":
        ema["denoise_fn.module.init_conv.weight"] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(content, path)
    if fault == "truncated":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("missing", "does not exist"),
        ("text", "cannot read weights"),
        ("truncated", "cannot read weights"),
        ("attack", "cannot read weights"),
        ("no weights", "holds no weights 'ema'"),
        ("list", "no published LeFusion checkpoint"),
        ("no tensors", "no published LeFusion checkpoint"),
        ("another network", r"no published LeFusion checkpoint: it lacks the tensor 'init_conv\.weight'"),
        ("lacking", r"lacks the network's key 'mid_block1\.block1\.proj\.weight'"),
        ("too many", r"has the key 'extra\.weight'"),
        ("shape", r"'mid_block1\.block1\.proj\.weight' has shape"),
        ("scalar", "no published LeFusion checkpoint"),
        ("NaN", r"'mid_block1\.block1\.proj\.weight' holds NaN"),
        ("overflow", "NaN or infinite"),
        ("schedule", "another noise schedule"),
        ("expanded", "more values than the file has bytes"),
    ],
)
def test_file_that_is_no_sound_checkpoint_gets_one_sentence_and_writes_nothing(fault, told, tmp_path):
    path = tmp_path / "file.pt"
    if fault != "missing":
        write_bad_file(path, fault)
    with pytest.raises(InputError, match=told) as error:
        import_weights(str(path), str(tmp_path / "out"))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ([] if fault == "missing" else ["file.pt"])


def test_unknown_kind_of_weights_is_named(tmp_path):
    save_published(tmp_path / "file.pt")
    with pytest.raises(InputError, match="weights must be ema or model, got 'best'"):
        import_weights(str(tmp_path / "file.pt"), str(tmp_path / "out"), weights="best")


@pytest.mark.parametrize("name", ["import-weights", "import_weights"])
def test_command_may_be_written_with_dashes_or_underscores(name, tmp_path, monkeypatch, capsys):
    _, ema = save_published(tmp_path / "file.pt")
    arguments = [name, str(tmp_path / "file.pt"), str(tmp_path / "out"), "--weights", "ema"]
    monkeypatch.setattr(sys, "argv", ["lefusion", *arguments])
    cli.main()
    assert same(imported(tmp_path / "out"), ema)
    assert "written" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["lefusion", *arguments, "--over-right"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: import_weights has no option --over_right; did you mean --overwrite?\n"


@pytest.mark.parametrize("name", ["lidc", "emidec", "diffmask"])
def test_reference_checkpoints_are_imported(name, golden_dir, tmp_path):
    import_weights(str(golden_dir / f"{name}_tiny.pt"), str(tmp_path))
    raw = torch.load(golden_dir / f"{name}_tiny.pt", weights_only=True)["ema"]
    state = imported(tmp_path).state_dict()
    assert len(state) == sum("denoise_fn" in key for key in raw)
    assert torch.equal(state["init_conv.weight"], raw["denoise_fn.module.init_conv.weight"])
