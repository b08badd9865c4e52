"""What is said of each prediction, and of all of them, on cases worked by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.features.normalise import apply_sphering, fit_sphering, standardise_plates
from moascope.features.table import FeatureTable
from moascope.learning import predictor
from moascope.learning.calls import (
    LIKE,
    UNLIKE,
    _batches,
    _nearest,
    call_warnings,
    controls_among,
    own_positions,
    summary,
    with_calls,
    with_inactive,
)
from moascope.learning.model import CHANCE, IN_PART, USEFUL
from moascope.learning.novelty import known_compounds
from moascope.learning.predictor import (
    _few_controls,
    check_fits,
    nearest_training,
    sites_of,
    sites_that_count,
)
from moascope.params import Train
from moascope.screen.question import Question

QUESTION = Question("t", ("not_t", "t"), True)
META = pd.DataFrame({
    "Metadata_Plate": ["P", "P", "P", "Q", "Q", "Q", "R"],
    "Metadata_Well": ["A01", "A02", "A03", "A01", "A02", "A03", "A01"],
    "Metadata_Panel": ["x", "x", "x", "x", "x", "x", "y"],
    "Metadata_Compound": ["a", "b", "DMSO", "a", "DMSO", "c", "b"],
    "Metadata_Control": ["", "", "negative", "negative", "negative", "", ""]})
# Units a, b, c and the controls that are nobody's.
GROUP = np.array([0, 1, -1, 0, -1, 2, 1])
SITES = SimpleNamespace(meta=META, group=GROUP, question=QUESTION,
                        groups=pd.DataFrame({"Metadata_Group": ["a", "b", "c"]}))


def test_a_unit_is_a_control_where_all_its_wells_are():
    units = pd.DataFrame({"Group": [0, 1, 2, -1, -1],
                          "Metadata_Control": ["negative", "negative", "", "negative", ""]})
    # a has a treated well, b is none; what belongs to nobody is what it is.
    assert controls_among(units, SITES).tolist() == [False, False, False, True, False]
    every = SimpleNamespace(**vars(SITES) | {
        "meta": META.assign(Metadata_Control=["negative", *[""] * 2, "negative", *[""] * 3])})
    assert controls_among(units, every).tolist() == [True, False, False, True, False]
    wells = SimpleNamespace(**vars(SITES) | {"question": Question("t", QUESTION.classes, True,
                                                                  "well")})
    assert controls_among(units, wells).tolist() == [False] * 5


def trust(**changes):
    rate, coverage = changes.pop("rate", 0.3), changes.pop("coverage", 0.9)
    decides = changes.pop("decides", True)
    sets = SimpleNamespace(sets=lambda probability: probability >= 0.4, decides=decides)
    return SimpleNamespace(**{
        "rate": rate, "coverage": coverage, "sets": {"compound": sets, "site": sets},
        "groups": np.array(["KEY", "b", "z"]), "compounds": np.array(["A|other", "B", "z"]),
        "mechanisms": np.array(["m1", "m2", ""]), "known": known_compounds(np.eye(3)),
        "controls": None, "sphering": None, **changes})


def test_a_compound_is_found_among_those_of_training_by_key_or_name():
    sites = SimpleNamespace(
        meta=pd.DataFrame({"Metadata_Compound": ["x", " OTHER", "q", "a", "B", "y"]}),
        group=np.array([0, 1, 2, 1, 3, 4]),
        groups=pd.DataFrame({"Metadata_Group": ["z", "other", "q", "no", "KEY"]}))
    assert own_positions(trust(), sites, np.array([3, 1, 2, 0, 4])).tolist() == [1, 0, -1, 2, 0]


def nearest(monkeypatch, kept, normalising=True, profiles=None):
    profiles = np.array([[0, 1, 0.1], [-1, -1, -2], [3, 0, 0.0]]) if profiles is None else profiles
    of = np.array([1, 2, 0])
    monkeypatch.setattr("moascope.learning.calls.consensus_profiles",
                        lambda given, sites, raw, controls: (profiles, of))
    monkeypatch.setattr("moascope.learning.calls.own_positions",
                        lambda given, sites, group: np.array([1, -1, -1]))
    control = np.array([False, False, True, False, False])
    return _nearest(kept, np.array([0, 1, 2, 2, -1]), control, SITES, np.zeros((7, 3)),
                    np.full(7, normalising))


def test_the_nearest_is_another_compound_of_training_and_controls_have_none(monkeypatch):
    found = nearest(monkeypatch, trust())
    # b is in training itself, so that its nearest is the third; a is the first; c like none.
    assert found["Nearest"].tolist() == ["A|other", "z", "", "A|other", ""]
    one = 0.1 / np.sqrt(1.01)
    np.testing.assert_allclose(found["Nearest_Similarity"], [1, one, np.nan, -1 / np.sqrt(6),
                                                             np.nan], atol=1e-6)
    # All three known ones lie at a distance of one from each other.
    np.testing.assert_allclose(found["Novelty_P"], [1, 1, np.nan, 0.25, np.nan])
    for nothing in (nearest(monkeypatch, trust(known=None)),
                    nearest(monkeypatch, trust(), normalising=False),
                    nearest(monkeypatch, trust(groups=np.array(["one"])))):
        assert list(nothing) == ["Nearest", "Nearest_Similarity", "Novelty_P"]
        assert nothing["Nearest"].tolist() == [""] * 5
        assert nothing[["Nearest_Similarity", "Novelty_P"]].isna().all(axis=None)
    assert nearest(monkeypatch, trust(groups=np.array(["one", "two"])))["Nearest"][0] == "A|other"


def batches(level, units, **changes):
    apart = pd.DataFrame({"Metadata_Plate": ["P", "Q"], "Metadata_Panel": "x",
                          "Distance": [1.0, 2.0], "Limit": [2.0, 1.9]})
    asked = []

    def distances(meta, raw):
        asked.append((meta, raw))
        return apart

    kept = trust(controls=SimpleNamespace(distances=distances))
    normalising = (META["Metadata_Control"] == "negative").to_numpy()
    found = _batches(kept, units, level, SITES, np.arange(7), normalising)
    (meta, raw), = asked
    assert raw.tolist() == [2, 3, 4] and meta["Metadata_Well"].tolist() == ["A03", "A01", "A02"]
    return found.tolist()


def test_one_plate_that_is_unlike_is_enough_and_an_untested_one_says_nothing():
    units = pd.DataFrame({"Group": [1, 0, 2]})
    assert batches("compound", units) == [LIKE, UNLIKE, UNLIKE]   # b: P and an untested plate
    plates = pd.DataFrame({"Metadata_Plate": ["R", "Q", "P"], "Metadata_Panel": ["y", "x", "x"]})
    assert batches("well", plates) == ["", UNLIKE, LIKE]
    # Without controls nothing is tested.
    none = np.zeros(7, bool)
    kept = trust(controls=SimpleNamespace(distances=None))
    assert _batches(kept, units, "compound", SITES, np.arange(7), none).tolist() == [""] * 3
    assert _batches(trust(), units, "compound", SITES, np.arange(7), ~none).tolist() == [""] * 3


def test_a_call_is_control_then_novel_then_the_one_class_then_undecided(monkeypatch):
    predictions = pd.DataFrame({"P_not_t": [0.7, 0.3, 0.5, 0.3, 0.7], "P_t": [0.3, 0.7, 0.5, 0.3,
                                                                            0.3]})
    p = np.array([0.31, 0.9, np.nan, 0.9, 0.3])
    monkeypatch.setattr("moascope.learning.calls._nearest", lambda *given: pd.DataFrame({
        "Nearest": "n", "Nearest_Similarity": 0.5, "Novelty_P": p}))
    monkeypatch.setattr("moascope.learning.calls._batches", lambda *given: np.array(["like"] * 5))
    units = pd.DataFrame({"Group": range(5)})
    control = np.zeros(5, bool)

    def calls(control, verdict=""):
        model = SimpleNamespace(question=QUESTION, verdict=verdict)
        return with_calls(predictions, units, control, "compound", model, trust(), SITES, None,
                          None)

    found = calls(control)
    assert found["Set"].tolist() == ["not_t", "t", "not_t|t", "", "not_t"]
    assert found["Call"].tolist() == ["not_t", "t", "undecided", "undecided", "novel"]
    assert found["Nearest"].tolist() == ["n"] * 5 and found["Novelty_P"][0] == 0.31
    assert set(found["Model"]) == {"not evaluated"} and set(found["Batch"]) == {"like"}
    assert list(predictions) == ["P_not_t", "P_t"]
    control[[1, 4]] = True
    found = calls(control, USEFUL)
    assert found["Set"].tolist() == ["not_t", "", "not_t|t", "", ""]
    assert found["Call"].tolist() == ["not_t", "control", "undecided", "undecided", "control"]
    assert set(found["Model"]) == {USEFUL}


def test_inactive_replaces_every_call_but_control():
    table = pd.DataFrame({"Call": ["t", "control", "novel", "undecided"]})
    inactive = np.array([True, True, True, False])
    plain, ranks = SimpleNamespace(ranks_inactive=False), SimpleNamespace(ranks_inactive=True)
    assert with_inactive(table, inactive, plain)["Call"].tolist() == [
        "inactive", "control", "inactive", "undecided"]
    assert with_inactive(table, inactive, ranks) is table
    other = table.rename(columns={"Call": "Other"})
    assert with_inactive(other, inactive, plain) is other


TABLE = pd.DataFrame({"Batch": [LIKE, UNLIKE, "", UNLIKE, UNLIKE],
                      "Metadata_Plate": ["P", "R", "P", "Q", "R"]})


@pytest.mark.parametrize(("verdict", "changes", "said"), [
    (USEFUL, {}, []), ("", {}, []),
    (CHANCE, {}, ["By its own evaluation this model is not better than chance. Do not act on its "
                  "calls."]),
    (IN_PART, {}, ["By its own evaluation this model is better than chance, but not better than "
                   "cell count, intensity or plate layout alone."]),
    # One in four is the smallest p of three compounds.
    (USEFUL, {"rate": 0.25}, []),
    (USEFUL, {"rate": 0.24}, ["3 training compounds are too few to call another one novel at a "
                              "rate of 24%."]),
    (USEFUL, {"rate": 0.24, "known": None}, []),
    (USEFUL, {"decides": False}, ["The training compounds are too few to exclude any class at a "
                                  "coverage of 90%, so every prediction is undecided. Lower "
                                  "train.coverage or annotate more compounds."])])
def test_what_has_to_be_known_before_a_call_is_believed(verdict, changes, said):
    found = call_warnings(SimpleNamespace(verdict=verdict), trust(**changes), TABLE[:1])
    assert list(found) == said


def test_plates_unlike_those_of_training_are_named():
    model = SimpleNamespace(verdict=USEFUL)
    end = ("unlike those of the training plates: another batch, instrument or stain. Coverage is "
           "not guaranteed there.")
    assert call_warnings(model, trust(), TABLE) == (
        f"The controls of 3 of 5 rows (Q, R) are {end}",)
    assert call_warnings(model, trust(), TABLE[["Batch"]]) == (
        f"The controls of 3 of 5 rows are {end}",)


def said(calls, p=0.9, inactive=None, level="compound"):
    table = pd.DataFrame({"Call": calls, "P_not_t": p, "P_t": p})
    return summary(table, QUESTION, level, inactive)


def test_the_summary_counts_every_kind_of_call():
    calls = ["t", "t", "not_t", "undecided", "novel", "novel", "inactive", "control", "control"]
    assert said(calls, level="well").splitlines() == [
        "7 wells: 3 called (2 t, 1 not t), 1 undecided, 1 inactive, 2 novel.",
        "2 controls get no mechanism."]
    assert said(["t"], level="site") == "1 site: 1 called (1 t), 0 undecided, 0 inactive, 0 novel."
    assert said(["undecided"]) == "1 compound: 0 called, 1 undecided, 0 inactive, 0 novel."


@pytest.mark.parametrize(("p", "begins"), [
    (0.5, None), ([0.49, 0.9], "1 of the 2 calls has a probability below 0.5: a class is called"),
    (0.4, "2 of the 2 calls have a probability below 0.5: a class is called")])
def test_calls_below_one_half_are_counted(p, begins):
    lines = " ".join(said(["t", "not_t"], p).split())
    assert (begins in lines) if begins else "below 0.5" not in lines


def test_compounds_that_look_like_the_controls_and_are_called_are_counted():
    calls = ["t", "novel", "inactive", "control", "not_t"]
    alike = np.array([True, True, True, True, False])
    assert "2 of the 4 look like DMSO (column Activity)." in " ".join(
        said(calls, inactive=alike).split())
    assert "DMSO" not in said(calls, inactive=~alike & False)
    assert "DMSO" not in said(calls[2:4], inactive=alike[2:4])


# What a model needs of a screen


def test_training_compounds_that_look_alike_are_listed_for_each_compound(monkeypatch):
    meta = META.assign(QC_Pass=[True, True, True, True, False, True, True])
    table = SimpleNamespace(meta=meta, X=np.arange(14.0).reshape(7, 2), names=["f0", "f1"])
    asked = []

    class Sites(SimpleNamespace):
        def take(self, rows):
            assert rows.tolist() == [True] * 7
            return self

    sites = Sites(meta=META.drop(columns="Metadata_Control").assign(
        Metadata_Control=META["Metadata_Control"]), group=GROUP, groups=SITES.groups)
    monkeypatch.setattr(predictor, "sites_of", lambda model, screen, given: sites)
    monkeypatch.setattr(predictor, "sites_that_count", lambda given: np.ones(7, bool))

    def profiles(given, sites, raw, normalising):
        asked.append((raw, normalising))
        return np.array([[0, 1, 0.1], [1, 0.2, 0.3]]), np.array([1, 0])

    monkeypatch.setattr(predictor, "consensus_profiles", profiles)
    monkeypatch.setattr(predictor, "own_positions", lambda given, sites, of: np.array([1, -1]))
    model = SimpleNamespace(trust=trust(), names=("f1", "f0"))
    found = nearest_training(model, "screen", table, 3)
    assert list(found) == ["Metadata_Compound", "Trained", "Nearest", "Metadata_MoA", "Similarity"]
    # b is in training and is not its own neighbour; a is not in it, and has all three.
    assert found["Metadata_Compound"].tolist() == ["b", "b", "a", "a", "a"]
    assert found["Trained"].tolist() == [True, True, False, False, False]
    assert found["Nearest"].tolist() == ["z", "A|other", "A|other", "z", "B"]
    assert found["Metadata_MoA"].tolist() == ["", "m1", "m1", "", "m2"]
    lengths = np.sqrt([1.01, 1.01, 1.13, 1.13, 1.13])
    np.testing.assert_allclose(found["Similarity"], [0.1, 0, 1, 0.3, 0.2] / lengths, atol=1e-6)
    (raw, normalising), = asked
    np.testing.assert_array_equal(raw, table.X[:, ::-1])
    # A control that failed quality control does not normalise.
    assert normalising.tolist() == [False, False, True, True, False, False, False]
    for kept in (None, trust(known=None)):
        nothing = nearest_training(SimpleNamespace(trust=kept, names=("f1",)), "", table, 3)
        assert nothing.empty and list(nothing) == list(found)
    table.meta = meta.assign(QC_Pass=False)
    assert nearest_training(model, "screen", table, 3).empty


def test_sites_that_failed_count_where_a_well_has_no_others():
    meta = pd.DataFrame({"Metadata_Plate": ["P", "P", "P", "Q", "Q"],
                         "Metadata_Well": ["A", "A", "B", "A", "A"],
                         "QC_Pass": [True, False, False, False, False]})
    assert sites_that_count(meta).tolist() == [True, False, True, True, True]


def test_a_screen_must_have_the_channels_and_the_panels_of_the_model():
    def check(channels, panels, of_screen=("DNA",), shown=("",), train=None):
        model = SimpleNamespace(channels=channels, panels=panels, train=train or Train())
        check_fits(model, SimpleNamespace(channels=of_screen, sites=pd.DataFrame(
            {"Metadata_Panel": shown})))

    check(("DNA",), ("",), ("DNA", "ER"))
    check(("DNA",), ("a", "b"), shown=("b", "b"))
    check(("DNA",), ("",), shown=("any",), train=Train(panels="pooled"))
    for channels, own in ((("DNA", "ER"), "DNA"), (("DNA", "ER"), "")):
        with pytest.raises(MoascopeError) as error:
            check(channels, ("",), tuple(own.split()))
        assert str(error.value) == (
            f"The model needs the channels DNA, ER; this screen has {own or 'no images'}. Rename "
            "its FileName_ columns, or train a model on screens like it.")
    for panels, shown, train, words in (
            (("a", "b"), ("c", "", "b"), None,
             "The model knows the panel a, the panel b, this screen has no panel, the panel c"),
            (("a",), ("c",), Train(panels="pooled"), "The model knows the panel a, this screen has "
                                                     "the panel c"),
            (("",), ("c",), None, "The model knows no panel, this screen has the panel c")):
        with pytest.raises(MoascopeError) as error:
            check(("DNA",), panels, shown=shown, train=train)
        assert str(error.value) == (
            f"{words} (Metadata_Panel in load_data.csv). Name panels as in training, or empty the "
            "column where the model knows none.")


def few(counts, controls=True, normalisation="plate", failed=0):
    rows = [(plate, "negative" if i < count else "", not i < failed)
            for plate, count in counts.items() for i in range(count + 2)]
    meta = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Control", "QC_Pass"])
    model = SimpleNamespace(controls=controls, head=SimpleNamespace(normalisation=normalisation))
    return _few_controls(model, meta.assign(Metadata_Panel=""), meta["QC_Pass"])


def test_plates_with_too_few_controls_are_named():
    assert few({"P": 4, "Q": 5}) == ()
    assert few({"P": 3}, controls=False) == () and few({"P": 3}, normalisation="none") == ()
    assert few({"P": 3, "Q": 4, "R": 0}) == (
        "2 plates with fewer than 4 usable sites of the negative control (P has 3, R has 0) are "
        "normalised by the controls of the other plates.",)
    assert few({"P": 3, "Q": 4}) == (
        "1 plate with fewer than 4 usable sites of the negative control (P has 3) is normalised by "
        "the controls of the other plates.",)
    assert few({"P": 4, "Q": 4}, failed=1) == (
        "No plate has the 4 usable sites of the negative control that the model needs to compare "
        "wells with (P has 3, Q has 3), so these predictions cannot be trusted. Add sites of "
        "control wells.",)


def new_screen(inchikeys=True, control="negative"):
    """A plate of six control sites, one of which failed, and treated ones of four names."""
    names = ["DMSO"] * 6 + ["b", "B-form", "a", ""]
    wells = [f"A{i + 1:02d}" for i in range(10)]
    layout = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": wells,
                           "Metadata_Compound": names, "Metadata_Concentration_uM": 1.0,
                           "Metadata_Control": [control] * 6 + [""] * 4})
    annotations = pd.DataFrame({"Metadata_Compound": ["B-form", "b"], "Metadata_InChIKey": [
        "AQHHHDLHHXJYJD-AWEZNQCLSA-N", "AQHHHDLHHXJYJD-UHFFFAOYSA-N"]})
    if not inchikeys:
        annotations = annotations[["Metadata_Compound"]]
    meta = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": wells, "Metadata_Site": 1,
                         "Metadata_Batch": "B", "Metadata_Panel": "",
                         "QC_Pass": [False] + [True] * 9})
    X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32) * 3 + 5
    X[9, 0] = np.nan
    return SimpleNamespace(layout=layout, annotations=annotations), FeatureTable(
        meta, X, ["other", "f0", "f1"])


def taking(normalisation="plate", names=("f1", "other"), backbones=("morphology",), **changes):
    return SimpleNamespace(**{
        "names": names, "embed": SimpleNamespace(backbones=backbones), "controls": True,
        "head": SimpleNamespace(normalisation=normalisation), "sphering": None,
        "question": QUESTION, "panels": ("",), **changes})


@pytest.mark.parametrize("normalisation", ["plate", "moderated", "plate+sphere", "none"])
def test_sites_are_normalised_by_the_screens_own_good_controls_and_the_models_sphering(
        normalisation):
    screen, table = new_screen()
    taken = table.X[:, [2, 0]]
    sphering = (fit_sphering(np.random.default_rng(1).normal(size=(9, 2)))
                if "sphere" in normalisation else None)
    sites = sites_of(taking(normalisation, sphering=sphering), screen, table)
    controls = np.array([False] + [True] * 5 + [False] * 4)
    expected = taken
    if normalisation != "none":
        expected = standardise_plates(FeatureTable(table.meta, taken, ["f1", "other"]), controls,
                                      normalisation == "moderated").X
    expected = np.nan_to_num(expected)
    if sphering is not None:
        expected = apply_sphering(expected, sphering)
    np.testing.assert_allclose(sites.features, expected, rtol=1e-5)
    assert sites.features[9, 1] == 0 or sphering is not None
    assert sites.names == ("f1", "other") and sites.panels == ("",)
    assert sites.question is QUESTION and "QC_Pass" not in sites.meta
    # A model that was trained without controls normalises by none.
    bare = sites_of(taking("plate", controls=False), screen, table)
    np.testing.assert_allclose(bare.features, np.nan_to_num(taken))


@pytest.mark.parametrize(("inchikeys", "groups"), [
    (True, ["AQHHHDLHHXJYJD", "a", "dmso"]), (False, ["a", "b", "b-form", "dmso"])])
def test_forms_of_one_compound_are_one_unit_and_a_site_without_a_name_is_none(inchikeys, groups):
    screen, table = new_screen(inchikeys)
    sites = sites_of(taking(), screen, table)
    assert sites.groups["Metadata_Group"].tolist() == groups
    named = [sites.groups["Metadata_Group"][one] if one >= 0 else "" for one in sites.group]
    key = groups[0] if inchikeys else None
    assert named == ["dmso"] * 6 + [key or "b", key or "b-form", "a", ""]


def test_what_a_model_needs_and_a_screen_lacks_is_a_sentence():
    screen, table = new_screen(control="")
    with pytest.raises(MoascopeError) as error:
        sites_of(taking(), screen, table)
    assert str(error.value) == (
        "The model compares wells with the negative controls of their own plate, and this screen "
        "has none. Mark them in layout.csv (Metadata_Control = negative).")
    sites_of(taking("none"), screen, table)
    screen, table = new_screen()
    for model, said in (
            (taking(names=("f0", "g", "h")),
             "2 of the 3 features that the model takes cannot be computed here, g for one. Use the "
             "moascope version that the model names."),
            (taking(names=("f0", "g"), backbones=("profiles",)),
             "The screen's profiles lack 1 of the 2 features that the model takes: g. Name the "
             "columns as in training, or train a model on screens like it."),
            (taking(names=("f0", "Profiles_Area", "Profiles_Size"), backbones=("profiles",)),
             "The screen's profiles lack 2 of the 3 features that the model takes: Area, Size. "
             "Name the columns as in training, or train a model on screens like it.")):
        with pytest.raises(MoascopeError) as error:
            sites_of(model, screen, table)
        assert str(error.value) == said
