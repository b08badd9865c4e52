"""Screens too small to learn from end in a sentence; one plate is enough."""

import pytest
from helpers import make_screen

from moascope.api.evaluation import evaluate
from moascope.api.features import extract_features
from moascope.api.learning import cross_validate, make_folds
from moascope.errors import MoascopeError
from moascope.learning.dealing import deal
from moascope.params import Split
from moascope.params_file import parse_params
from moascope.screen.tables import read_screen
from moascope.screen.targets import label_screen
from moascope.stages.acquire import acquire
from moascope.stages.validate import validate


def acquired(tmp_path, target, **options):
    folder = make_screen(tmp_path / "screen", **options)
    params = parse_params({"target": target, "acquire": {"source": "folder", "path": str(folder)}})
    acquire(params, tmp_path / "acquire")
    return params, tmp_path / "acquire"


UNKNOWN = {f"C{number:02d}": "" for number in range(12)}


@pytest.mark.parametrize(("options", "target", "sentence"), [
    ({"compounds": 1, "controls": 0}, "moa", "has a single class here"),
    ({"compounds": 1, "controls": 0}, "gpcr", "among the 1 annotated compound of this screen"),
    ({"wells": 1, "compounds": 1, "controls": 0, "sites": 1}, "gpcr", "There is no negative"),
    ({"wells": 4, "controls": 4}, "gpcr", "every annotation is empty or unknown"),
    ({"annotations": {}}, "gpcr", "Fill in annotations.csv"),
    ({"annotations": {}}, "moa", "Fill in annotations.csv"),
    ({"annotations": {}}, "tubulin inhibitor", "names no mechanism at all"),
    ({"annotations": UNKNOWN, "compounds": 12, "wells": 24}, "gpcr", "Fill in annotations.csv"),
])
def test_a_screen_that_cannot_answer_the_question_says_so_before_any_image_is_looked_at(
        tmp_path, options, target, sentence):
    params, screen = acquired(tmp_path, target, **options)
    with pytest.raises(MoascopeError, match=sentence):
        validate(params, screen, tmp_path / "validate", tmp_path / "report")
    assert not (tmp_path / "validate").exists()


def test_a_compound_next_to_few_controls_is_not_dealt_into_folds(tmp_path):
    screen = read_screen(make_screen(tmp_path / "screen", compounds=1, controls=2, images=False))
    with pytest.raises(MoascopeError, match=r"Only 1 well of .* 'not_gpcr'.*At least 3"):
        deal(label_screen(screen, "gpcr"), screen.sites, Split(), seed=0)


def test_one_plate_is_enough_and_what_needs_several_is_not_scored(tmp_path):
    folder = make_screen(tmp_path / "screen", plates=1, wells=40, compounds=16, controls=8)
    screen = read_screen(folder)
    features = extract_features(screen, "morphology", crop=32, crops=1)
    folds = make_folds(screen, features, "gpcr", folds=3)
    evaluation = evaluate(cross_validate(features, folds, epochs=5))
    assert evaluation.table["average_precision"].between(0, 1).all()
    assert "Plate only" in evaluation.table.index
