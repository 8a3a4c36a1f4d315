"""Real lesions are learnt from on the very grid in which lesions are painted."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_organs import save_livers

from custom_components.conditioners import HistogramConditioner
from custom_components.datasets import list_lesions
from custom_components.errors import InputError
from custom_components.labels import LesionLabels
from custom_components.planning import plan_lesions
from custom_components.transforms import LesionCropd, RealLesionCropd
from custom_components.windows import FixedWindow, PercentileWindow

LABELS = LesionLabels({"tumour": 1, "cyst": 2}, {"liver": 3})
SIZE = (24, 24, 16)


@pytest.fixture(scope="module", params=["straight", "oblique"])
def case(request, tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("livers")
    save_livers(root)
    name = {"straight": "liver_01", "oblique": "liver_02"}[request.param]
    files = {"image": f"{root}/images/{name}_0000.nii.gz", "label": f"{root}/labels/{name}.nii.gz"}
    return {**files, "case": name, "patient": name}


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), None])
@pytest.mark.parametrize("window", [FixedWindow(-100, 200), PercentileWindow(1, 99, 0.5)], ids=["HU", "percentiles"])
def test_crop_masks_and_window_are_those_of_painting(case, spacing_mm, window):
    conditioner = HistogramConditioner({"only": [1 / 16] * 16})
    planned = plan_lesions([case], conditioner, "only", 0, SIZE, spacing_mm, window, LABELS)
    assert len(planned) == 2
    for number, item in enumerate(planned, start=1):
        painted = LesionCropd("image", SIZE, spacing_mm, labels=LABELS)(item)
        learnt = RealLesionCropd("image", SIZE, spacing_mm, window, labels=LABELS)({**case, "lesion": number})
        for key in ("image", "label", "window"):
            np.testing.assert_array_equal(learnt[key], painted[key])
        np.testing.assert_array_equal(learnt["image"].affine, painted["image"].affine)
        assert learnt["label"].shape == (2, *SIZE)
        assert learnt["anatomy"].shape == (1, *SIZE)


def test_each_lesion_is_an_item_whose_mask_holds_it_alone(case):
    first, second = list_lesions([{**case, "lesions": [1, 2]}])
    crop = RealLesionCropd("image", (64, 64, 40), (1.5, 1.5, 1.5), FixedWindow(-100, 200), labels=LABELS)
    present = [[bool(part.any()) for part in crop(item)["label"]] for item in (first, second)]
    assert present == [[True, False], [False, True]]


def test_lesion_that_is_not_there_is_told(case):
    with pytest.raises(InputError, match="has 2 lesions, none of number 3"):
        RealLesionCropd("image", SIZE, labels=LABELS)({**case, "lesion": 3})


def test_datalist_that_does_not_tell_its_lesions_is_told():
    with pytest.raises(InputError, match="case a of the datalist lacks 'lesions'"):
        list_lesions([{"case": "a"}])
    with pytest.raises(InputError, match="none of the 1 cases of the datalist has a lesion"):
        list_lesions([{"case": "a", "lesions": []}])
