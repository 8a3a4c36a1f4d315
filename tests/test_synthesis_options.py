"""What `lefusion synthesize` takes, refuses and writes down."""

from __future__ import annotations

import json

import fire
import pytest

from custom_components.errors import InputError
from custom_components.synthesis.options import SynthesisOptions, fix_by_set, read_options

FOLDERS = {"input": "scans", "output": "set", "bundle": "lefusion_lidc"}


def options(**given) -> SynthesisOptions:
    return read_options(**{**FOLDERS, **given})


@pytest.mark.parametrize(
    ("word", "limits"), [("2", (2, 2)), ("1-3", (1, 3)), (" 2-2 ", (2, 2)), (None, (1, 1)), (4, (4, 4))]
)
def test_lesions_are_a_number_or_a_range(word, limits):
    assert options(lesions=word).lesions == limits


@pytest.mark.parametrize(("word", "limits"), [("6", (6, 6)), ("3-15", (3, 15)), ("2.5-4.", (2.5, 4)), (None, None)])
def test_radius_is_a_number_or_a_range_and_otherwise_as_in_real_lesions(word, limits):
    assert options(radius=word).radius_mm == limits


@pytest.mark.parametrize("word", ["1-3", "3-15", "N''", "P'", "solid:75,part_solid:20"])
def test_words_reach_the_command_as_they_were_typed(word):
    assert fire.Fire(lambda value: value, command=["--value", word]) == word


def test_texture_is_a_request_or_weights_for_random_ones():
    assert options(texture="solid").texture == "solid"
    assert options(texture={"mi": "weak"}).texture == {"mi": "weak"}
    weighted = options(texture="solid:75, part_solid:20,ground_glass:5")
    assert weighted.texture == "random"
    assert weighted.texture_weights == {"solid": 75, "part_solid": 20, "ground_glass": 5}
    assert options().texture == "random" and options().texture_weights is None


def test_keys_with_mask_before_them_go_to_the_mask_bundle():
    made = options(overrides={"num_inference_steps": 5, "mask_num_inference_steps": 7, "mask_fit_sphere": "false"})
    assert made.overrides == {"num_inference_steps": 5}
    assert made.mask_overrides == {"num_inference_steps": 7, "fit_sphere": False}


def test_options_survive_json():
    made = options(lesions="1-3", radius="3-15", texture="solid:3,part_solid:1", organ_labels=[1, 2], config="[a,b]")
    assert SynthesisOptions.from_dict(json.loads(json.dumps(made.as_dict()))) == made


@pytest.mark.parametrize(
    ("name", "masks", "lesions"), [("P'", "given", None), ("N'", "diffmask", (1, 1)), ("N''", "diffmask", (2, 3))]
)
def test_a_set_fixes_masks_and_lesions(name, masks, lesions):
    made = options(set=name)
    assert (made.masks, made.lesions) == (masks, lesions)


def test_copy_paste_copies_masks_and_intensities():
    made = options(set="copy_paste", library="real")
    assert (made.masks, made.lesions, made.copies_values) == ("copy", (1, 1), True)
    assert not options(masks="copy", library="real").copies_values


def test_normal_sets_take_the_mask_sources_of_the_paper():
    assert options(set="N'", masks="handcrafted").masks == "handcrafted"
    assert options(set="N'", masks="copy", library="real").masks == "copy"


@pytest.mark.parametrize(("name", "cases"), [("P'", 1), ("N'", 2), ("N''", 5)])
def test_sets_of_a_bundle_that_paints_jointly_differ_in_cases_per_scan(name, cases):
    made = fix_by_set(options(set=name), joint=True, cases_given=False)
    assert made.cases_per_scan == cases and made.lesions in (None, (1, 1))
    with pytest.raises(InputError, match=f"{cases} cases of a scan"):
        fix_by_set(options(set=name, cases_per_scan=7), joint=True, cases_given=True)
    assert fix_by_set(options(set=name), joint=False, cases_given=False).cases_per_scan == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lesions": 0}, "lesions"),
        ({"lesions": "3-1"}, "lesions"),
        ({"lesions": "many"}, "lesions"),
        ({"radius": "-3"}, "radius"),
        ({"radius": "9-3"}, "radius"),
        ({"texture": "solid:much"}, "texture"),
        ({"set": "Q"}, "set must be one of P'"),
        ({"masks": "drawn"}, "masks must be one of"),
        ({"set": "P'", "masks": "diffmask"}, "--set P' takes --masks given"),
        ({"set": "P'", "lesions": 1}, "--lesions has no meaning"),
        ({"set": "P'", "radius": 3}, "--radius has no meaning"),
        ({"masks": "given", "organ_mask": "x"}, "--organ_mask has no meaning"),
        ({"set": "N'", "masks": "given"}, "--set N' takes"),
        ({"set": "N'", "lesions": 3}, "--set N' takes --lesions 1"),
        ({"set": "N''", "lesions": 1}, "--set N'' takes --lesions 2-3"),
        ({"set": "copy_paste"}, "--library"),
        ({"set": "copy_paste", "library": "x", "texture": "solid"}, "takes no --texture"),
        ({"masks": "copy"}, "--library"),
        ({"library": "x"}, "--library is for --masks copy"),
        ({"seed": "x"}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"cases_per_scan": 1.5}, "cases_per_scan"),
        ({"threads": 0}, "threads"),
        ({"organ_labels": "a"}, "organ_labels"),
        ({"panel": "maybe"}, "panel"),
        ({"overrides": {"image": "x"}}, "--image is what synthesize sets"),
        ({"overrides": {"mask_spheres": "x"}}, "--mask_spheres is what synthesize sets"),
        ({"output": "scans/out"}, "lies within the input"),
        ({"input": None}, "needs --input"),
    ],
)
def test_what_is_wrong_or_contradicts_is_refused_by_name(given, message):
    with pytest.raises(InputError, match=message):
        options(**given)


@pytest.mark.parametrize("given", [{"lesions": 2}, {"set": "copy_paste", "library": "x"}])
def test_a_bundle_that_paints_jointly_paints_one_lesion(given):
    with pytest.raises(InputError, match="as one lesion"):
        fix_by_set(options(**given), joint=True, cases_given=False)
