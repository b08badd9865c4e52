"""A network sees each crop at several turns, and its features are the mean."""

from __future__ import annotations

import numpy as np
import pytest

from moascope.errors import MoascopeError
from moascope.features.backbones import find_weights, open_backbone
from moascope.features.embed import embed_plates, features_of_screen
from moascope.features.turns import averaged
from moascope.params import Embed, Prepare
from moascope.params_file import parse_params
from moascope.pixels.prepare import prepare_plates
from moascope.screen.tables import read_screen
from tests.helpers import make_screen

PLANES = np.random.default_rng(0).integers(0, 256, (20, 64, 64)).astype(np.uint8)
MOVES = {
    "quarter": lambda planes: np.rot90(planes, axes=(1, 2)),
    "half": lambda planes: planes[:, ::-1, ::-1],
    "mirrored": lambda planes: planes[:, :, ::-1],
    "upside down": lambda planes: planes[:, ::-1],
    "transposed": lambda planes: planes.swapaxes(1, 2),
}


def corner(planes):
    """A network by hand: the upper left corner, and the one to its right."""
    return planes[:, [0, 0], [0, -1]].astype(np.float32)


def test_the_mean_over_turns_by_hand():
    plane = np.array([[[1, 2], [4, 9]]], np.uint8)
    assert averaged(corner, 1)(plane).tolist() == [[1, 2]]
    # Each corner comes to each place once, so both features are the mean of the four.
    assert averaged(corner, 4)(plane).tolist() == [[4, 4]]
    assert averaged(corner, 8)(plane).tolist() == [[4, 4]]

    def order(planes):
        # 1 where the numbers grow clockwise from the upper left corner.
        return (planes[:, 0, 0] < planes[:, 0, 1])[:, None].astype(np.float32)

    # Upper rows of the turns: 1 2, 2 9, 9 4, 4 1; of their mirror images: 2 1, 1 4, 4 9, 9 2.
    assert averaged(order, 4)(plane).tolist() == [[0.5]]
    assert averaged(lambda p: p[:, 0, :2].astype(np.float32) ** 2, 8)(plane).tolist() == [
        [(1 + 4 + 16 + 81) / 4] * 2]


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("turns", [1, 4, 8])
def test_crops_that_differ_by_a_turn_have_equal_features(turns, move):
    see = open_backbone("cellmobile", find_weights("cellmobile", Embed()), "f32", turns, 64).planes
    there, moved = see(PLANES), see(np.ascontiguousarray(MOVES[move](PLANES)))
    equal = turns == 8 or (turns == 4 and move in ("quarter", "half"))
    assert there.dtype == np.float32
    assert np.allclose(there, moved, atol=1e-3 * np.abs(there).max()) == equal


def test_the_default_is_quarter_turns_and_others_are_refused():
    assert parse_params({}).embed.turns == 4
    for wrong in (0, 2, 3, "all"):
        with pytest.raises(MoascopeError, match=r"embed\.turns"):
            parse_params({"embed": {"turns": wrong}})


def test_other_turns_are_other_features_and_the_same_ones_are_kept(tmp_path):
    screen = read_screen(make_screen(tmp_path / "screen", plates=1, wells=6, sites=1, size=64))
    settings = Prepare(crop=64, crops=1, flat_field=False)
    prepare_plates(screen, tmp_path / "prepare", settings, 1)

    def embedded(turns):
        return embed_plates(tmp_path / "prepare", tmp_path / "embed", Embed(turns=turns), 1)

    assert embedded(4) == {"cellmobile": (1, 0)}
    assert embedded(4) == {"cellmobile": (0, 1)}
    assert embedded(1) == {"cellmobile": (1, 0)}
    one, four = (features_of_screen(screen, settings, Embed(turns=turns)).X for turns in (1, 4))
    assert one.shape == four.shape and not np.allclose(one, four)
