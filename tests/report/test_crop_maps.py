"""The map beside a crop: its colours, what the page says of it, and that random heads are asked."""

import base64
import io

import numpy as np
import pytest
from looking import CHANNELS, CROP, toy_sight
from PIL import Image

from moascope.report.compounds import TILE, Typical, typical_pictures
from moascope.report.crop_maps import CropMap, check_words, crop_map


def typical(**crops):
    return Typical("P", {who: ("A01", at) for at, who in enumerate(crops, start=1)},
                   {who: np.full((2, CROP, CROP), level, np.uint8) for who, level in crops.items()},
                   CHANNELS, 1)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(
        picture.source.partition(",")[2]))), int)


def test_what_speaks_for_the_class_is_blue_where_it_lies():
    found = typical(**{"compound": 100, "negative control": 84})
    looked = crop_map(toy_sight([3.0, 0, 0, 0]), found, 1)
    assert looked.largest == pytest.approx(16 / 16 * 6, rel=0.05)
    assert looked.lost > looked.random > 0
    shown = pixels(looked.picture)
    red, blue = (shown[..., colour] for colour in (0, 2))
    assert (blue - red)[4:44, 4:44].min() > 40
    assert np.abs(blue - red)[:, TILE + 8:].max() < 25 > np.abs(blue - red)[68:, :90].max()
    turned = pixels(crop_map(toy_sight([3.0, 0, 0, 0]), found, 0).picture)
    assert (turned[..., 0] - turned[..., 2])[4:44, 4:44].min() > 40
    assert [one.alt.split(",")[0] for one in typical_pictures(found)] == [
        "compound", "negative control"]


def test_without_a_control_a_square_becomes_flat_which_costs_a_flat_crop_nothing():
    looked = crop_map(toy_sight([3.0, 0, 0, 0]), typical(compound=100), 1)
    assert looked.lost == looked.random == looked.largest == 0


def test_a_site_that_the_features_lack_has_no_map():
    found = typical(other=100, compound=100)
    assert crop_map(toy_sight([1, 0, 0, 0]), found, 1) is None


@pytest.mark.parametrize(("signed", "absolute", "said"), [
    (0.9, 0.9, "explain nothing"), (0.1, 0.6, "only its signs are the model's"),
    (0.1, 0.2, "depend on what the model has learnt")])
def test_the_sanity_check_is_told_whichever_way_it_ends(signed, absolute, said):
    one = CropMap(None, 1.0, signed, absolute, 2.0, 1.0)
    text = check_words([one, one])
    assert said in text and f"correlation of {signed:.2f} with these" in text
    assert "lose 2.0 log-odds on average, without a random fifth 1.0; more than at random" in text
    assert "do not read them" not in text
    assert "do not read them" in check_words([CropMap(None, 1.0, 0.1, 0.1, 1.0, 2.0)])
    assert check_words([]) == ""
    plain = check_words([CropMap(None, 1.0, None, None, 2.0, 1.0)])
    assert "2.0 log-odds" in plain and "random weights" not in plain
