"""The cardiac bundle, run whole with a tiny network: painted phantoms, variants, evaluation, training, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import (
    BUNDLES,
    TINY_NETWORK,
    Output,
    assert_trained_alike,
    causes,
    execute,
    files_below,
    infer,
    latest,
    same,
    save_nifti,
    save_weights_of,
    scalars,
    stored_of,
    train_in_two_processes,
    training_workflow,
    weights,
)
from monai.engines import SupervisedEvaluator
from thick_stacks import STORED_WAYS, TILTS, affine_of, ring, signal, stored_as

from custom_components.errors import InputError, find_input_error
from custom_components.inferers import LesionInpaintingInferer
from custom_components.lesion_transfer import copy_lesions
from custom_components.phantoms import Phantom, short_axis_phantom

BUNDLE = BUNDLES / "lefusion_emidec"
CONFIGS = BUNDLE / "configs"
TINY = {f"network_def#{key}": value for key, value in TINY_NETWORK.items()}
MI, PMO = 3, 4
# The paper's variants: jointly or separately painted classes, with and without histogram (-H).
VARIANTS = {
    "J-H": [],
    "J": ["no_histogram"],
    "S-H": ["mi_only"],
    "S": ["pmo_only", "no_histogram"],
}

# ----------------------------------------------------------------------------------------- painting


@pytest.fixture(scope="module")
def paint(tmp_path_factory) -> Callable[..., Output]:
    """Runs the bundle with tiny weights, over overlays: ``paint(output_dir, image=..., mask=..., **overrides)``."""
    made: dict[tuple[str, ...], Path] = {}

    def run(output_dir: Path, *overlays: str, case: str = "case", **overrides: Any) -> Output:
        if overlays not in made:
            made[overlays] = save_weights_of(BUNDLE, tmp_path_factory.mktemp("weights") / "tiny.pt", *overlays)
        settings = {
            **TINY,
            "num_inference_steps": 2,
            "spatial_size": [24, 24, 6],
            "bundle_root": str(BUNDLE),
            "device": "cpu",
            "panel": False,
            "progress": False,
            "weights": str(made[overlays]),
            "output_dir": str(output_dir),
        }
        files = [str(CONFIGS / f"{name}.json") for name in ("inference", *overlays)]
        infer(files, **{**settings, **overrides})
        return Output(output_dir, case)

    return run


def save_case(folder: Path, label: np.ndarray | None = None, image: np.ndarray | None = None) -> dict[str, str]:
    """A small oblique stack with both classes, stored with permuted and flipped axes."""
    label = ring() if label is None else label
    image = signal(label.clip(0, PMO)).astype(np.uint8) if image is None else image
    stored = {
        "case": stored_as(image, affine_of(), STORED_WAYS[29]),
        "label": stored_as(label, affine_of(), STORED_WAYS[29]),
    }
    paths = {name: str(save_nifti(folder / f"{name}.nii.gz", *volume)) for name, volume in stored.items()}
    return {"image": paths["case"], "mask": paths["label"]}


def save_phantom(folder: Path, heart: Phantom, labels: np.ndarray) -> dict[str, str]:
    image = save_nifti(folder / "case.nii.gz", heart.image, heart.affine)
    return {"image": str(image), "mask": str(save_nifti(folder / "label.nii.gz", labels, heart.affine))}


def assert_painted_inside_alone(output: Output, files: dict[str, str], classes=(MI, PMO)) -> None:
    before, label = stored_of(files["image"]), stored_of(files["mask"])
    lesion = np.isin(label, classes)
    assert output.stored.dtype == before.dtype
    assert np.array_equal(output.stored[~lesion], before[~lesion])
    for value in classes:
        if (label == value).any():
            assert (output.stored[label == value] != before[label == value]).mean() > 0.8
    np.testing.assert_array_equal(np.asarray(output.mask.dataobj), np.where(lesion, label, 0))


@pytest.fixture(scope="module")
def normal() -> Phantom:
    return short_axis_phantom(5, (96, 96, 6), (1.4, 1.4, 10.0))


def test_pathological_map_is_painted_into_a_phantom_with_the_bundle_s_own_crop(paint, normal, tmp_path):
    ill = short_axis_phantom(5, (96, 96, 6), (1.4, 1.4, 10.0), pathological=True)
    assert set(np.unique(ill.labels)) == {0, 1, 2, MI, PMO}
    files = save_phantom(tmp_path / "in", normal, ill.labels)
    output = paint(tmp_path / "out", **files, spatial_size=[72, 72, 10], panel=True)
    assert_painted_inside_alone(output, files)
    assert output.files() == ["case_lefusion.json", "case_lefusion.nii.gz", "case_mask.nii.gz", "case_panel.png"]
    assert [spec["lesion_class"] for spec in output.specs] == ["mi", "pmo"]
    assert output.sidecar["bundle"]["name"] == "lefusion_emidec"
    means = {e["spec"]["lesion_class"]: e["mean_painted"] for e in output.sidecar["lesions"]}
    assert means["pmo"] < means["mi"], "textures are drawn so that obstruction is darker than infarct"


def test_lesions_copied_from_another_heart_are_painted_into_a_normal_one(paint, normal, tmp_path):
    source = short_axis_phantom(8, (96, 96, 7), (1.4, 1.4, 9.0), pathological=True)
    labels = copy_lesions(source.labels, source.affine, normal.labels, normal.affine)
    files = save_phantom(tmp_path / "in", normal, labels)
    output = paint(tmp_path / "out", **files, spatial_size=[72, 72, 6])
    assert_painted_inside_alone(output, files)


def test_case_without_obstruction_is_normal(paint, tmp_path):
    files = save_case(tmp_path / "in", ring(core=False))
    output = paint(tmp_path / "out", **files, texture={"mi": "strong", "pmo": "dark"})
    assert_painted_inside_alone(output, files)
    assert [(spec["lesion_class"], spec["texture"]) for spec in output.specs] == [("mi", "strong")]


def test_shipped_presets_steer_each_class(paint, tmp_path):
    files = save_case(tmp_path / "in")
    presets = json.loads((CONFIGS / "texture_presets.json").read_text())["classes"]
    means = {}
    for mi, pmo in (("weak", "grey"), ("strong", "dark")):
        output = paint(tmp_path / mi, **files, texture={"mi": mi, "pmo": pmo}, texture_perturbation=0.0)
        assert [spec["texture"] for spec in output.specs] == [mi, pmo]
        for spec, name in zip(output.specs, (mi, pmo), strict=True):
            own = presets[spec["lesion_class"]]["presets"][name]
            np.testing.assert_allclose(spec["histogram"], own, atol=1e-5)
        means[mi] = [lesion["mean_painted"] for lesion in output.sidecar["lesions"]]
    assert means["strong"][0] > means["weak"][0] and means["strong"][1] < means["weak"][1]


@pytest.mark.parametrize("overlay", ["diffused", "paper_sampler"])
def test_overlays_paint(paint, tmp_path, overlay):
    files = save_case(tmp_path / "in")
    output = paint(tmp_path / "out", overlay, **files, num_inference_steps=2, jump_length=1, jump_n_sample=1)
    assert_painted_inside_alone(output, files)
    assert output.sidecar["settings"]["sampler"] == ("DDPMSampler" if overlay == "paper_sampler" else "DDIMSampler")


def test_resume_paints_only_the_cases_without_a_record(paint, tmp_path, monkeypatch):
    for name in ("one", "two"):
        files = save_case(tmp_path / "in" / name)
        for kind, folder in (("image", "images"), ("mask", "labels")):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Path(files[kind]).rename(tmp_path / "data" / folder / f"{name}.nii.gz")
    data = {"dataset_dir": str(tmp_path / "data")}
    first = paint(tmp_path / "out", case="two", **data)
    assert len(first.files()) == 6
    expected = first.stored
    (tmp_path / "out" / "two_lefusion.json").unlink()
    before = files_below(tmp_path / "out")
    batches = []
    sample = LesionInpaintingInferer.sample
    monkeypatch.setattr(
        LesionInpaintingInferer,
        "sample",
        lambda self, *args, **kwargs: batches.append(1) or sample(self, *args, **kwargs),
    )
    again = paint(tmp_path / "out", case="two", resume=True, **data)
    assert len(batches) == 1
    assert np.array_equal(again.stored, expected)
    after = files_below(tmp_path / "out")
    assert {name: after[name] for name in before if name.startswith("one")} == {
        name: before[name] for name in before if name.startswith("one")
    }


def test_replay_gives_the_same_bytes(paint, tmp_path):
    files = save_case(tmp_path / "in")
    first = paint(tmp_path / "first", **files, seed=4)
    again = paint(tmp_path / "again", **files, seed=5, replay=str(tmp_path / "first" / "case_lefusion.json"))
    assert np.array_equal(first.stored, again.stored)
    assert first.specs == again.specs


# ----------------------------------------------------------------------------------------- bad input


def odd_label(value: int) -> np.ndarray:
    label = ring()
    label[0, 0, 0] = value
    return label


def two_scars_far_apart() -> np.ndarray:
    label = ring((44, 26, 6))
    label[42, 12, 3] = 3
    return label


BAD_INPUT = {
    "label with unknown value": (
        {"label": odd_label(9)},
        {},
        "label.nii.gz must hold 0, 1, 2, 3 and 4 only, it holds 9",
    ),
    "no lesion": ({"label": ring(lesion=False)}, {}, r"label.nii.gz holds no lesion \(mi = 3, pmo = 4\)"),
    "empty label": ({"label": np.zeros((28, 26, 6), np.uint8)}, {}, "label.nii.gz is empty"),
    "lesion too large": (
        {"label": two_scars_far_apart()},
        {},
        "lesion 1 of mask .*label.nii.gz measures .* larger than",
    ),
    "constant image": ({"image": np.full((28, 26, 6), 7, np.uint8)}, {}, "case.nii.gz: the scan has the same value, 7"),
    "crop of another size": ({}, {"spatial_size": [20, 24, 6]}, r"spatial_size must be multiples of \[8, 8, 1\]"),
    "unknown class": ({}, {"texture": {"scar": "strong"}}, "texture names the class 'scar'; known: mi, pmo"),
    "texture of another class": ({}, {"texture": {"pmo": "strong"}}, "unknown texture 'strong'; known: dark, grey"),
    "percentiles": ({}, {"intensity_percentiles": [99, 1]}, "intensity_percentiles must rise within 0 and 100"),
    "unknown contrast": ({}, {"contrasts": [["mi", "fat", 0, 1]]}, "contrasts name 'fat'"),
    "weights of an unknown texture": ({}, {"texture_weights": {"mi": {"dark": 1}}}, "unknown texture 'dark'"),
}


@pytest.mark.parametrize("fault", BAD_INPUT)
def test_fault_is_told_in_one_sentence_before_any_sampling_and_nothing_is_written(paint, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(LesionInpaintingInferer, "sample", lambda *args, **kwargs: pytest.fail("sampling began"))
    volumes, overrides, message = BAD_INPUT[fault]
    files = save_case(tmp_path / "in", volumes.get("label"), volumes.get("image"))
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        paint(tmp_path / "out", **files, **overrides)
    error = find_input_error(caught.value)
    assert error is not None, causes(caught.value)
    assert "\n" not in str(error) and str(error).endswith(".")
    with pytest.raises(InputError, match=message):
        raise error
    assert not (tmp_path / "out").exists()


def test_presets_that_lack_a_class_are_told(paint, tmp_path):
    presets = json.loads((CONFIGS / "texture_presets.json").read_text())
    del presets["classes"]["pmo"]
    (tmp_path / "presets.json").write_text(json.dumps(presets))
    with pytest.raises(Exception) as caught:
        paint(tmp_path / "out", **save_case(tmp_path / "in"), texture_presets=str(tmp_path / "presets.json"))
    assert "presets.json lack the class 'pmo'" in str(find_input_error(caught.value))
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------- training

PATIENTS, HELD_OUT = "abcdef", ["b", "e"]
TRAINING = {
    **TINY,
    "network_def#fine_channels": 4,
    "spatial_size": [24, 24, 6],
    "crop_size": [16, 16, 6],
    "batch_size": 2,
    "repeats": 1,
    "val_repeats": 1,
    "max_epochs": 1,
    "val_interval": 1,
    "picture_interval": 0,
    "ema_start": 0,
    "ema_interval": 1,
    "val_patients": HELD_OUT,
}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory) -> Path:
    """Six hearts with lesions, one of them (``c``) without obstruction, in stacks stored in many ways; two normal."""
    root = tmp_path_factory.mktemp("hearts")
    for seed, name in enumerate(PATIENTS + "nm"):
        label = ring(core=name != "c", lesion=name not in "nm")
        affine, way = affine_of(list(TILTS.values())[seed % 3]), STORED_WAYS[5 * seed]
        group = root / ("Normal" if name in "nm" else "Pathological")
        save_nifti(group / "images" / f"{name}.nii.gz", *stored_as(signal(label, seed).astype(np.uint8), affine, way))
        save_nifti(group / "labels" / f"{name}.nii.gz", *stored_as(label, affine, way))
    return root


def train(dataset_dir: Path, output_dir: Path, *overlays: str, prepare=None, **overrides: Any) -> Path:
    names = [f"{name}.json" for name in ("train", *overlays)]
    execute(training_workflow(BUNDLE, names, dataset_dir, output_dir, **{**TRAINING, **overrides}), prepare)
    return output_dir


@pytest.fixture(scope="module")
def trained(dataset_dir, tmp_path_factory) -> Path:
    """The output folder of a training of three epochs."""
    return train(dataset_dir, tmp_path_factory.mktemp("trained"), "train_cpu", max_epochs=3, learning_rate=0.003)


def test_hearts_with_lesions_are_learnt_from_and_the_named_patients_held_out(dataset_dir, tmp_path):
    flow = training_workflow(BUNDLE, ["train.json"], dataset_dir, tmp_path, **TRAINING)
    flow.initialize()
    cases = {part: flow.parser.get_parsed_content(f"{part}#dataset#data") for part in ("train", "validate")}
    names = {part: sorted(case["case"] for case in found) for part, found in cases.items()}
    assert names == {"train": sorted(set(PATIENTS) - set(HELD_OUT)), "validate": HELD_OUT}


def test_network_sees_the_stack_with_its_slices_last_and_both_masks(dataset_dir, tmp_path):
    seen = []

    def prepare(trainer):
        trainer.network.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))

    train(dataset_dir, tmp_path, prepare=prepare)
    assert {tuple(x.shape) for x in seen} == {(2, 3, 16, 16, 6)}
    masks = torch.cat(seen)[:, 1:]
    assert set(masks.unique().tolist()) == {0, 1}
    assert (masks.sum(dim=1) <= 1).all()
    whole = int((ring() == MI).sum()), int((ring() == PMO).sum())
    sizes = {tuple(int(part.sum()) for part in sample) for sample in masks}
    assert sizes <= {whole, (sum(whole), 0)}, "crops hold every voxel of the lesions, and padding none"


@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_trains_an_epoch_and_paints(paint, dataset_dir, tmp_path, variant):
    overlays = VARIANTS[variant]
    trainers, conditions = [], []

    def prepare(trainer):
        trainers.append(trainer)
        trainer.network.register_forward_pre_hook(
            lambda module, args, kwargs: conditions.append(kwargs["context"].clone()), with_kwargs=True
        )

    out = train(dataset_dir, tmp_path / "runs", *overlays, prepare=prepare, condition_dropout=0.0)
    separate = {"mi_only", "pmo_only"} & set(overlays)
    assert trainers[0].inferer.combiner.num_classes == (1 if separate else 2)
    with_histogram = "no_histogram" not in overlays
    assert bool(torch.cat(conditions).any()) == with_histogram
    assert np.isfinite(scalars(out / "tensorboard", "train_loss")).all()
    assert np.isfinite(scalars(out / "tensorboard", "val_loss")).all()

    files = save_case(tmp_path / "in")
    model = str(out / "checkpoints" / "model.pt")
    output = paint(tmp_path / "out", *overlays, **files, weights=model, **{"network_def#fine_channels": 4})
    classes = {"mi_only": (MI,), "pmo_only": (PMO,)}[separate.pop()] if separate else (MI, PMO)
    before, label = stored_of(files["image"]), stored_of(files["mask"])
    lesion = np.isin(label, classes)
    assert np.array_equal(output.stored[~lesion], before[~lesion])
    assert (output.stored[lesion] != before[lesion]).mean() > 0.5
    assert [spec["lesion_class"] for spec in output.specs] == [{MI: "mi", PMO: "pmo"}[value] for value in classes]
    assert all((spec["texture"] == "none") != with_histogram for spec in output.specs)


def test_two_epochs_and_one_more_equal_three_in_one_go(trained, dataset_dir, tmp_path):
    settings = {"learning_rate": 0.003}
    schedule = {"lr_scheduler#T_max": 3}  # the learning rate's course is that of the whole training
    train(dataset_dir, tmp_path, "train_cpu", max_epochs=2, **settings, **schedule)
    train(dataset_dir, tmp_path, "train_cpu", max_epochs=3, resume=True, **settings)
    for key in ("network", "ema_network", "optimizer", "epoch", "iteration"):
        assert same(latest(tmp_path)[key], latest(trained)[key]), key


@pytest.mark.integration
def test_two_processes_train_like_one_with_the_same_global_batch(dataset_dir, tmp_path):
    settings = {**TRAINING, "max_epochs": 2, "learning_rate": 0.001, "ema_decay": 0.5}
    train_in_two_processes(BUNDLE, dataset_dir, tmp_path, **{**settings, "batch_size": 1})
    train(dataset_dir, tmp_path / "alone", **settings)
    assert_trained_alike(tmp_path, tmp_path / "alone", steps=2 * 2)
    assert weights(tmp_path / "out_0").keys() == weights(tmp_path / "alone").keys()


# ----------------------------------------------------------------------------------------- evaluation


def evaluate(trained: Path, dataset_dir: Path, output_dir: Path, **overrides: Any) -> dict[str, Any]:
    settings = {key: TRAINING[key] for key in (*TINY, "network_def#fine_channels", "spatial_size", "val_patients")}
    settings |= {"weights": str(trained / "checkpoints" / "model.pt"), "num_inference_steps": 2, **overrides}
    execute(training_workflow(BUNDLE, ["train.json", "evaluate.json"], dataset_dir, output_dir, **settings))
    return json.loads((output_dir / "summary.json").read_text())


def test_evaluation_measures_each_class_and_the_contrasts_of_its_neighbours(trained, dataset_dir, tmp_path):
    summary = evaluate(trained, dataset_dir, tmp_path / "out")
    assert sorted(files_below(tmp_path / "out")) == ["lesions.png", "metrics.csv", "summary.json"]
    assert summary["lesions"] == len(HELD_OUT)
    assert {name: part["lesions"] for name, part in summary["classes"].items()} == {"mi": 2, "pmo": 2}
    for part in summary["classes"].values():
        assert part["fillings"]["painted"]["max_outside"] == 0
        assert part["fillings"]["mean"]["mean_difference"] == pytest.approx(0, abs=1e-5)
    # In these hearts the wall (40) is darker than the scar (200), and so is the core (100).
    assert {pair: (found["lesions"], found["real"]) for pair, found in summary["contrasts"].items()} == {
        "myocardium < mi": (2, 1.0),
        "pmo < mi": (2, 1.0),
    }
    assert all(0 <= found["painted"] <= 1 for found in summary["contrasts"].values())


def test_evaluation_of_the_training_part_counts_the_case_without_obstruction(trained, dataset_dir, tmp_path):
    summary = evaluate(trained, dataset_dir, tmp_path / "out", section="training", batch_size=2)
    assert {name: part["lesions"] for name, part in summary["classes"].items()} == {"mi": 4, "pmo": 3}
    assert summary["contrasts"]["pmo < mi"]["lesions"] == 3


def test_existing_evaluation_is_kept_unless_overwritten(trained, dataset_dir, tmp_path, monkeypatch):
    (tmp_path / "summary.json").write_text("{}")
    monkeypatch.setattr(SupervisedEvaluator, "run", lambda self: pytest.fail("the evaluator was started"))
    with pytest.raises(Exception) as caught:  # MONAI wraps what its configs raise
        evaluate(trained, dataset_dir, tmp_path)
    assert "summary.json exists already: pass --overwrite true" in str(find_input_error(caught.value))
