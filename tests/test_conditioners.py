"""Histogram-based texture control (Eq. 5, appendix F)."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

from custom_components.conditioners import (
    HistogramConditioner,
    class_conditioners,
    lesion_histogram,
    match_texture_mean,
)
from custom_components.errors import InputError

NAMES = ("ground_glass", "part_solid", "solid")


def bump(centre: float) -> list[float]:
    values = np.exp(-0.5 * ((np.arange(16) - centre) / 2.5) ** 2)
    return (values / values.sum()).tolist()


PRESETS = {"ground_glass": bump(4), "part_solid": bump(7), "solid": bump(11)}
UNIFORM = [1 / 16] * 16


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ----------------------------------------------------------------------------------------- measuring a histogram


def test_histogram_equals_the_reference(golden_dir):
    case = torch.load(golden_dir / "histogram.pt", weights_only=True)
    got = lesion_histogram(case["image"], case["mask"], num_bins=len(case["hist16"]))
    torch.testing.assert_close(got, case["hist16"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("num_bins", [16, 5])
def test_histogram_counts_lesion_voxels_over_their_number(num_bins):
    rng = np.random.default_rng(2)
    image = rng.uniform(-1, 1, size=(1, 7, 6, 5)).astype(np.float32)
    mask = rng.uniform(size=image.shape) < 0.3
    counts, _ = np.histogram(image[mask], bins=num_bins, range=(-1, 1))
    got = lesion_histogram(torch.tensor(image), torch.tensor(mask), num_bins)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), counts / mask.sum(), atol=1e-6)


def test_ends_belong_to_the_end_bins_and_what_lies_beyond_to_none():
    """As in the reference cases: a value outside [-1, 1] is in no bin, but still one of the lesion's voxels."""
    image = torch.tensor([-1.0, -7.0, 1.0, 1.0, 2.0, 0.0])
    expected = torch.zeros(16)
    expected[0], expected[15], expected[8] = 1 / 6, 2 / 6, 1 / 6
    torch.testing.assert_close(lesion_histogram(image, torch.ones(6)), expected)


def test_empty_mask_has_an_all_zero_histogram():
    assert torch.equal(lesion_histogram(torch.rand(3, 3), torch.zeros(3, 3)), torch.zeros(16))


# ----------------------------------------------------------------------------------------- presets


def test_presets_are_read_from_a_dictionary_and_from_a_file_alike(tmp_path):
    file = tmp_path / "presets.json"
    file.write_text(json.dumps({"presets": PRESETS}))
    for presets in (PRESETS, file, str(file)):
        conditioner = HistogramConditioner(presets, perturbation=0)
        assert list(conditioner.presets) == list(NAMES)
        for name in NAMES:
            found, histogram = conditioner(name, generator())
            assert found == name
            np.testing.assert_allclose(histogram, PRESETS[name], atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda clusters: clusters, lambda clusters: {"presets": clusters}])
def test_unnamed_clusters_are_named_by_rising_mean_intensity(tmp_path, wrap):
    file = tmp_path / "clusters.json"
    file.write_text(json.dumps(wrap([PRESETS["solid"], PRESETS["ground_glass"], PRESETS["part_solid"]])))
    conditioner = HistogramConditioner(file)
    for name in NAMES:
        np.testing.assert_allclose(conditioner.presets[name], PRESETS[name], atol=1e-6)


def test_unnamed_clusters_take_the_names_they_are_given(tmp_path):
    file = tmp_path / "clusters.json"
    file.write_text(json.dumps([PRESETS["solid"], PRESETS["ground_glass"]]))
    conditioner = HistogramConditioner(file, texture_names=("dark", "bright"))
    np.testing.assert_allclose(conditioner.presets["bright"], PRESETS["solid"], atol=1e-6)


def test_preset_that_sums_to_1_up_to_rounding_is_made_to(tmp_path):
    rounded = [round(value, 3) for value in PRESETS["solid"]]
    conditioner = HistogramConditioner({"solid": rounded}, perturbation=0)
    assert conditioner("solid", generator())[1].sum() == pytest.approx(1, abs=1e-6)


# ----------------------------------------------------------------------------------------- the random preset


def test_random_texture_follows_the_weights():
    weights = {"solid": 75, "part_solid": 20, "ground_glass": 5}
    conditioner = HistogramConditioner(PRESETS, weights)
    rng, draws = generator(), 3000
    counts = Counter(conditioner("random", rng)[0] for _ in range(draws))
    for name, weight in weights.items():
        p = weight / 100
        assert abs(counts[name] - draws * p) < 4 * np.sqrt(draws * p * (1 - p))


def test_texture_without_weight_is_never_drawn():
    rng = generator()
    for weights in ({"solid": 1, "part_solid": 0, "ground_glass": 2}, {"solid": 1, "ground_glass": 2}):
        conditioner = HistogramConditioner(PRESETS, weights)
        assert {conditioner.sample_texture(rng) for _ in range(200)} == {"solid", "ground_glass"}


def test_textures_are_equally_likely_without_weights():
    conditioner, rng = HistogramConditioner(PRESETS), generator()
    counts = Counter(conditioner.sample_texture(rng) for _ in range(3000))
    assert all(abs(counts[name] - 1000) < 4 * np.sqrt(3000 * 2 / 9) for name in NAMES)


def test_random_histogram_belongs_to_the_texture_that_is_named():
    conditioner, rng = HistogramConditioner(PRESETS, perturbation=0), generator()
    for _ in range(20):
        name, histogram = conditioner("random", rng)
        np.testing.assert_allclose(histogram, PRESETS[name], atol=1e-6)


# ----------------------------------------------------------------------------------------- the perturbation


def test_perturbation_moves_each_bin_within_ten_percent_and_keeps_the_sum():
    """The factors f within [0.9, 1.1] are divided by their weighted mean, itself within [0.9, 1.1]."""
    conditioner, rng = HistogramConditioner({"solid": UNIFORM}), generator()
    ratios = np.array([conditioner("solid", rng)[1] for _ in range(500)]) * 16
    np.testing.assert_allclose(ratios.sum(axis=1), 16, atol=1e-4)
    # With equal bins the mean factor is near 1, so the ratios themselves fill the range.
    assert (ratios.max(axis=1) / ratios.min(axis=1)).max() <= 1.1 / 0.9 + 1e-5
    assert (ratios.max(axis=1) / ratios.min(axis=1)).mean() > 1.15
    assert ratios.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1)
    assert ratios.mean(axis=0) == pytest.approx(np.ones(16), abs=0.015)


@pytest.mark.parametrize("perturbation", [0.02, 0.3])
def test_perturbation_is_as_wide_as_asked(perturbation):
    conditioner, rng = HistogramConditioner({"solid": UNIFORM}, perturbation=perturbation), generator()
    ratios = np.array([conditioner("solid", rng)[1] for _ in range(500)]) * 16
    spread = (ratios.max(axis=1) / ratios.min(axis=1)).max()
    limit = (1 + perturbation) / (1 - perturbation)
    assert 1 + 0.9 * (limit - 1) < spread <= limit + 1e-5


def test_empty_bin_stays_empty():
    histogram = [0.5, 0.5] + [0.0] * 14
    perturbed = HistogramConditioner({"solid": histogram})("solid", generator())[1]
    assert (perturbed[2:] == 0).all()
    assert perturbed[0] != 0.5


def test_same_generator_state_gives_the_same_histogram():
    conditioner = HistogramConditioner(PRESETS)
    first, again, other = (conditioner("random", generator(seed))[1] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_explicit_histogram_is_used_as_given_and_draws_nothing():
    rng = generator()
    state = rng.bit_generator.state
    for request in (PRESETS["solid"], tuple(PRESETS["solid"]), np.array(PRESETS["solid"])):
        name, histogram = HistogramConditioner(PRESETS)(request, rng)
        assert name == "custom"
        assert histogram.dtype == np.float32
        np.testing.assert_allclose(histogram, PRESETS["solid"], rtol=1e-6)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize("request_", ["none", None])
def test_none_is_the_null_condition(request_):
    name, histogram = HistogramConditioner(PRESETS)(request_, generator())
    assert name == "none"
    assert histogram.dtype == np.float32
    assert np.array_equal(histogram, np.zeros(16))


# ----------------------------------------------------------------------------------------- bad requests


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ("granite", "unknown texture 'granite'.*ground_glass, part_solid, solid"),
        ("", "unknown texture ''"),
        ([1.0] + [0.0] * 14, r"16 bins.*\(15,\)"),
        ([], "16 bins"),
        ([UNIFORM], r"16 bins.*\(1, 16\)"),
        ([1.5, -0.5] + [0.0] * 14, "negative.*-0.5"),
        ([float("nan")] + [1 / 15] * 15, "NaN"),
        ([float("inf")] + [0.0] * 15, "infinite"),
        ([0.5] + [0.0] * 15, "sum to 1.*0.5"),
        ([0.0] * 16, "sum to 1"),
        ([2 / 16] * 16, "sum to 1.*2"),
        (["a"] * 16, "list of 16 numbers"),
        ([[1.0], [1.0, 2.0]], "list of 16 numbers"),
        ({"solid": 1}, "list of 16 numbers"),
        (0.5, "16 bins"),
        (True, "16 bins"),
    ],
)
def test_bad_request_is_refused_naming_the_fault(request_, fault):
    conditioner = HistogramConditioner(PRESETS)
    with pytest.raises(InputError, match=fault):
        conditioner.check_request(request_)
    with pytest.raises(InputError, match=fault):
        conditioner(request_, generator())


@pytest.mark.parametrize("request_", ["solid", "random", "none", None, UNIFORM])
def test_good_request_passes_the_check(request_):
    HistogramConditioner(PRESETS).check_request(request_)


# ----------------------------------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"presets": {"solid": UNIFORM[:-1]}}, "preset 'solid'.*16 bins"),
        ({"presets": {"solid": [-1.0, 2.0] + [0.0] * 14}}, "preset 'solid'.*negative"),
        ({"presets": {"solid": [0.9] + [0.0] * 15}}, "preset 'solid'.*sum to 1"),
        ({"presets": {"solid": "bright"}}, "preset 'solid'"),
        ({"presets": {}}, "."),
        ({"weights": {"granite": 1}}, "'granite'.*ground_glass"),
        ({"weights": {"solid": -1}}, "'solid'.*negative"),
        ({"weights": {"solid": float("nan")}}, "'solid'"),
        ({"weights": {"solid": 0, "part_solid": 0}}, "not all be 0"),
        ({"perturbation": -0.1}, "perturbation.*-0.1"),
        ({"perturbation": 1.0}, "perturbation.*1.0"),
        ({"perturbation": float("nan")}, "perturbation"),
        pytest.param({"weights": {"solid": float("inf")}}, "'solid'"),
        pytest.param({"weights": {"solid": "much"}}, "'solid'"),
    ],
)
def test_bad_setting_is_refused_naming_the_fault(settings, fault):
    with pytest.raises(InputError, match=fault):
        HistogramConditioner(**{"presets": PRESETS, **settings})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{not json", "cannot read texture presets"),
        (b"\xff\xfe\x00", "cannot read texture presets"),
        (json.dumps([UNIFORM, UNIFORM]), "2 clusters, expected 3"),
        (json.dumps({"presets": {"solid": UNIFORM[:-1]}}), "preset 'solid'.*16 bins"),
        (json.dumps({"presets": {"solid": [float("nan")] * 16}}), "preset 'solid'.*NaN"),
        *(
            pytest.param(content, "presets.json")
            for content in ("3", '{"presets": 5}', '["a", "b", "c"]', '[{"a": 1}, [], []]')
        ),
    ],
)
def test_bad_presets_file_is_refused_naming_the_fault(tmp_path, content, fault):
    file = tmp_path / "presets.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=fault):
        HistogramConditioner(file)


def test_missing_presets_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json"):
        HistogramConditioner(tmp_path / "nowhere.json")


def test_mean_of_every_lesion_is_shifted_to_its_request_inside_the_mask_only():
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(2, 2, 4, 4, 4, generator=generator) - 0.5
    masks = torch.zeros(2, 2, 4, 4, 4)
    masks[0, 0, :2], masks[0, 1, 2:], masks[1, 0, :, 1:3] = 1, 1, 1  # class 2 is absent from the second sample
    histograms = torch.zeros(2, 2, 16)
    histograms[0, 0, 12], histograms[1, 0, 3] = 1, 1  # class 2 of the first sample: the null condition
    shifted = match_texture_mean(x_0, masks, histograms)
    assert shifted[0, 0][masks[0, 0] > 0].mean().item() == pytest.approx(12.5 / 8 - 1, abs=1e-6)
    assert shifted[1, 0][masks[1, 0] > 0].mean().item() == pytest.approx(3.5 / 8 - 1, abs=1e-6)
    assert torch.equal(shifted[masks == 0], x_0[masks == 0])
    assert torch.equal(shifted[:, 1], x_0[:, 1])
    inside = masks[0, 0] > 0
    before, after = x_0[0, 0][inside], shifted[0, 0][inside]
    torch.testing.assert_close(after - after.mean(), before - before.mean())  # the structure stays
    half = match_texture_mean(x_0, masks, histograms, strength=0.5)
    torch.testing.assert_close(half, (x_0 + shifted) / 2)


# ----------------------------------------------------------------------------------------- several classes


def by_class(tmp_path, content) -> str:
    path = tmp_path / "presets.json"
    path.write_text(json.dumps(content))
    return str(path)


def spikes(*bins: int) -> list[list[float]]:
    return [[float(k == number) for k in range(16)] for number in bins]


def test_each_class_has_its_own_presets_and_weights(tmp_path):
    dark, bright = spikes(2, 12)
    content = {"classes": {"a": {"presets": {"low": dark, "high": bright}}, "b": {"presets": {"only": dark}}}}
    found = class_conditioners(["a", "b"], by_class(tmp_path, content), {"a": {"low": 0, "high": 1}})
    rng = np.random.default_rng(0)
    assert {found["a"]("random", rng)[0] for _ in range(20)} == {"high"}
    assert found["b"]("random", rng)[0] == "only"


@pytest.mark.parametrize("flat", [True, False])
def test_published_clusters_are_split_by_class_and_named_by_rising_mean(tmp_path, flat):
    clusters = [spikes(9, 1), spikes(3, 7), spikes(6, 4)]
    clusters = [a + b for a, b in clusters] if flat else clusters
    found = class_conditioners(["a", "b"], by_class(tmp_path, clusters), {"a": {"strong": 1}})
    for name, order in (("a", (3, 6, 9)), ("b", (1, 4, 7))):
        presets = found[name].presets
        assert list(presets) == ["control_1", "control_2", "control_3"]
        assert [int(np.argmax(values)) for values in presets.values()] == list(order)


@pytest.mark.parametrize("content", [{"presets": {}}, {"classes": {"a": {}}}, [[0.5] * 16], [1, 2], "text"])
def test_presets_without_the_classes_are_told_with_the_file(tmp_path, content):
    with pytest.raises(InputError, match=r"presets\.json"):
        class_conditioners(["a", "b"], by_class(tmp_path, content))
