"""The page for predictions: what it lists, and that it stands alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import Page
from learnable import HEAD, TRAIN, as_screen, make_examples, with_plate_controls
from looking import toy_sight
from test_crop_maps import typical

from moascope.errors import MoascopeError
from moascope.explanation.shares import SHARE_COLUMNS, read_shares
from moascope.features import disk
from moascope.learning.final import final_model, fit_final
from moascope.learning.model import USEFUL
from moascope.learning.nested import nested
from moascope.learning.trust import fit_trust
from moascope.params import Embed, Params
from moascope.report import predicted
from moascope.report.predicted import call_reason, prediction_page
from moascope.work.files import write_csv

EVIL = "<script>alert(1)</script> & {{ 7*7 }}"


@pytest.fixture(scope="module")
def world():
    """A model, and its screen: three compounds of training have other names, 12 were held out."""
    examples = with_plate_controls(make_examples(compounds=60, effect=4.0),
                                   np.random.default_rng(7))
    params = Params(train=TRAIN, seed=0)
    logits, _ = nested(examples, {(0, fold): HEAD for fold in range(examples.fold_count)},
                       params.train, 0)
    heads, _, calibrations = fit_final(examples, HEAD, logits, params)
    trust = fit_trust(examples, HEAD, params.train, logits, calibrations)
    model = final_model(examples, heads, calibrations, HEAD, params, (), Embed(), {}, trust)
    screen, table = as_screen(examples)
    names = sorted(trust.compounds)[:3]
    other = dict(zip(names, ["new one", "new two", EVIL], strict=True))
    layout = screen.layout.assign(
        Metadata_Compound=screen.layout["Metadata_Compound"].replace(other))
    annotations = layout[["Metadata_Compound"]].drop_duplicates()
    compounds = pd.DataFrame({"Metadata_Compound": ["new one"], "active": ["no"]})
    return (replace(model, verdict=USEFUL), replace(screen, layout=layout, annotations=annotations),
            table, compounds)


def page_of(world, tmp_path, **options):
    text = prediction_page(*world, Path(tmp_path), **options).text
    return text, Page(text)


def test_the_page_lists_what_the_model_has_not_seen_and_nothing_else(world, tmp_path):
    text, page = page_of(world, tmp_path)
    assert "15 compounds that the model has not seen, ranked by the probability of t." in page.text
    assert "45 compounds are left out" in page.text
    assert "inactive: looks like DMSO" in page.text
    assert text.count("<li id=") == 15
    # The same wells under another name: the nearest training compound is the compound itself.
    assert text.count("(1.00)") == 3
    assert "DMSO</h3>" not in text
    known, _ = page_of(world, tmp_path, known={"new one"})
    assert known.count("<li id=") == 14 and "new one" not in known


def test_the_page_is_the_same_from_features_on_disk(world, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "PIECE", 4 * 20 * 31)
    monkeypatch.setattr(disk, "MOST_IN_MEMORY", 0)
    model, screen, table, compounds = world
    large = replace(table, X=disk.written(table.X.shape, [table.X], tmp_path))
    memory, page = (prediction_page(model, screen, one, compounds, Path(tmp_path))
                    for one in (table, large))
    assert page.text == memory.text
    pd.testing.assert_frame_equal(page.shares, memory.shares, rtol=1e-3, atol=1e-6)


def test_every_compound_of_the_page_has_its_shares_in_the_table(world, tmp_path):
    page = prediction_page(*world, Path(tmp_path))
    assert list(page.shares) == SHARE_COLUMNS
    assert page.text.count("<li id=") == page.shares["Metadata_Compound"].nunique() == 15
    assert EVIL in set(page.shares["Metadata_Compound"]) and set(page.shares["Class"]) == {"t"}
    write_csv(tmp_path / "shares.csv", page.shares)
    pd.testing.assert_frame_equal(read_shares(tmp_path / "shares.csv"), page.shares)


@pytest.mark.parametrize(("call", "within", "ground"), [
    ("t", "t", "It is called because at most 10 % of the compounds that are not t score as hi"),
    ("not_t", "not_t", "It is called because at most 10 % of the compounds that are t score as lo"),
    ("undecided", "not_t|t", "not t and t cannot be told apart at 90 %."),
    ("undecided", "", "It fits no class: each is excluded."),
    ("novel", "t", "It is further from the training compounds than all but 5 % of them are from"),
    ("inactive", "t", "It looks like the negative controls, and this model is not known to")])
def test_a_call_is_explained_beside_how_likely_it_is(world, call, within, ground):
    model = world[0]
    said = {"t": "t", "not_t": "not t"}.get
    hits = 100 * (model.trust.labels == "t").mean()
    assert f"{call_reason(call, within, 0.324, 't', model, said)} ".startswith(
        f"Of 100 compounds with this probability, about 32 should be t; of random ones, {hits:.0f} "
        f"are. {ground}")


@pytest.mark.parametrize(("probability", "said"), [
    (0.999, "more than 99 should"), (0.001, "fewer than 1 should"), (0.9, "about 90 should")])
def test_no_probability_is_said_to_be_certain(world, probability, said):
    assert said in call_reason("undecided", "", probability, "t", world[0], str)


def test_of_several_classes_every_other_one_is_excluded(world):
    model = world[0]
    asked = replace(model.question, classes=("a", "b", "c"), binary=False)
    assert call_reason("b", "b", 0.4, "b", replace(model, question=asked), str).endswith(
        "Every other class is excluded at 90 %.")


def test_the_page_stands_alone_and_names_break_nothing(world, tmp_path):
    text, page = page_of(world, tmp_path)
    assert page.loads == []
    assert text.count("<script") == 1
    assert "{{ 7*7 }}" in page.text
    assert "This screen has profiles and no images" in page.text
    assert text == page_of(world, tmp_path)[0]


def test_inactive_decides_on_the_page_as_in_the_table(world, tmp_path):
    model, *rest = world
    text, _ = page_of(world, tmp_path)
    shown, _ = page_of((replace(model, ranks_inactive=True), *rest), tmp_path)
    assert 'data-call="inactive"' in text and 'data-call="inactive"' not in shown


def test_the_page_says_what_each_prediction_rests_on(world, tmp_path):
    text, page = page_of(world, tmp_path)
    # The channel DNA, the cell count and the rest; the count is what tells the class here.
    assert text.count('<ul class="shares">') == 15
    assert "the probability that is left if all features of one channel" in page.text
    assert "The model is linear, so these shares are exact" in page.text
    first = text[text.index("<li id="):].split("</ul>")[0]
    assert "left:50%;width:50%" in first and "cell count: 0." in first


def test_maps_stand_between_a_compound_and_its_control_with_their_sanity_check(
        world, tmp_path, monkeypatch):
    model, screen, *rest = world
    sight = toy_sight([3.0, 0, 0, 0])
    monkeypatch.setattr(predicted, "sight_of", lambda *_: sight)
    monkeypatch.setattr(predicted, "MOST_MAPS", 2)
    monkeypatch.setattr(predicted, "typical_site", lambda *_: typical(
        **{"compound": 100, "negative control": 84}))
    text, page = page_of((model, replace(screen, channels=("DNA",)), *rest), tmp_path)
    assert text.count("What speaks for it (blue)") == 2
    assert "Maps of 5 heads with random weights have a mean rank correlation of" in page.text
    first = text[text.index("<li id="):].split("</li>\n<li")[0]
    assert [first.index(word) for word in ("Compound, P", "What speaks", "Negative control, P")
            ] == sorted(first.index(word) for word in ("Compound, P", "What speaks",
                                                       "Negative control, P"))


def test_nothing_unseen_is_said(world, tmp_path):
    _, page = page_of(world, tmp_path, known=set(world[1].layout["Metadata_Compound"]))
    assert "Every compound of this screen is known to the model or to its evaluation." in page.text


def test_a_model_of_an_earlier_version_has_no_page(world, tmp_path):
    model, *rest = world
    with pytest.raises(MoascopeError, match="earlier version"):
        page_of((replace(model, trust=None), *rest), tmp_path)
