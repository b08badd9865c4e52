import dataclasses

import numpy as np
import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.learning.dealing import (
    assign_folds,
    deal,
    set_controls_aside,
    split_report,
    untestable_classes,
    usable_units,
)
from moascope.params import Split
from moascope.screen.question import Question
from moascope.screen.targets import Labels


def groups(counts):
    labels = [name for name, count in counts.items() for _ in range(count)]
    return pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(len(labels))],
        "Metadata_Compound": [f"C{i}" for i in range(len(labels))],
        "Label": labels,
    })


def test_every_class_is_spread_over_folds_as_evenly_as_it_can_be():
    table = assign_folds(groups({"a": 50, "b": 7, "c": 2}), 5, 3, 0.0, seed=0)
    for repeat in range(3):
        for _, part in table.groupby("Label"):
            sizes = np.bincount(part[f"Fold_{repeat}"], minlength=5)
            assert sizes.max() - sizes.min() <= 1
        sizes = np.bincount(table[f"Fold_{repeat}"], minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_repeats_deal_anew_and_seeds_too():
    first = assign_folds(groups({"a": 30, "b": 10}), 5, 2, 0.0, seed=0)
    again = assign_folds(groups({"a": 30, "b": 10}), 5, 2, 0.0, seed=0)
    other = assign_folds(groups({"a": 30, "b": 10}), 5, 2, 0.0, seed=1)
    pd.testing.assert_frame_equal(first, again)
    assert (first["Fold_0"] != first["Fold_1"]).any()
    assert (first["Fold_0"] != other["Fold_0"]).any()


def test_the_hold_out_is_the_same_whatever_the_seed_and_the_number_of_folds():
    one = assign_folds(groups({"a": 30, "b": 10}), 5, 1, 0.2, seed=0)
    two = assign_folds(groups({"a": 30, "b": 10}), 3, 2, 0.2, seed=9)
    assert one["Holdout"].tolist() == two["Holdout"].tolist()
    assert one.groupby("Label")["Holdout"].sum().to_dict() == {"a": 6, "b": 2}
    assert (one.loc[one["Holdout"], "Fold_0"] == -1).all()
    assert (one.loc[~one["Holdout"], "Fold_0"] >= 0).all()


def test_a_small_class_gives_nothing_to_the_hold_out():
    table = assign_folds(groups({"a": 3, "b": 2, "c": 1}), 3, 1, 0.2, seed=0)
    assert not table["Holdout"].any()
    assert untestable_classes(table) == ["c"]


def test_the_two_compounds_of_a_class_are_in_two_folds():
    for seed in range(20):
        table = assign_folds(groups({"a": 2, "b": 2, "c": 3, "d": 3, "e": 1}), 5, 1, 0.2, seed)
        for _, part in table.groupby("Label"):
            assert part["Fold_0"].is_unique


def test_fewer_compounds_than_folds_is_a_sentence_with_the_remedy():
    with pytest.raises(MoascopeError, match="3 annotated compounds cannot be dealt into 5 folds"):
        assign_folds(groups({"a": 2, "b": 1}), 5, 1, 0.0, seed=0)


def labels_of(counts, binary=True, unit="compound", target="t"):
    table = groups(counts).assign(Metadata_MoA="", gpcr_action="")
    wells = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": table["Metadata_Group"],
                          "Metadata_Group": table["Metadata_Group"]})
    classes = ("not_t", "t") if binary else tuple(sorted(counts))
    return Labels(Question(target, classes, binary, unit), table, wells, ()), wells


@pytest.mark.parametrize(("counts", "split", "sentence"), [
    ({"not_t": 20, "t": 1}, {}, r"Only 1 compound of this screen is 't'.*Annotate more"),
    ({"not_t": 20, "t": 2}, {}, r"Only 2 compounds of this screen are 't'"),
    ({"not_t": 2, "t": 20}, {}, r"Only 2 compounds of this screen are 'not_t'"),
    ({"not_t": 20, "t": 4}, {"holdout": 0.5}, r"split.holdout = 0.5 leaves 2 compounds of 't'"),
    ({"not_t": 20, "t": 4}, {"holdout": 0.2}, r"Set split.holdout=0.25, or split.holdout=0 "),
    ({"not_t": 20, "t": 3}, {"holdout": 0.2}, r"Set split.holdout=0 \(the model can then not"),
])
def test_a_question_that_cannot_be_answered_is_refused_with_what_helps(counts, split, sentence):
    labels, usable = labels_of(counts)
    with pytest.raises(MoascopeError, match=sentence):
        deal(labels, usable, Split(**split), 0)


@pytest.mark.parametrize(("counts", "holdout"), [
    ({"not_t": 20, "t": 4}, 0.25), ({"not_t": 20, "t": 3}, 0), ({"not_t": 20, "t": 7}, 0.15)])
def test_what_the_refusal_recommends_is_accepted(counts, holdout):
    labels, usable = labels_of(counts)
    table = deal(labels, usable, Split(holdout=holdout), 0).groups
    assert ((~table["Holdout"]) & (table["Label"] == "t")).sum() >= 3
    assert bool(holdout) == (table["Holdout"] & (table["Label"] == "t")).any()


def test_mechanisms_of_one_compound_each_are_refused_and_small_ones_are_not_promotable():
    labels, usable = labels_of({name: 1 for name in "abcdef"}, binary=False, target="moa")
    with pytest.raises(MoascopeError, match="Every mechanism has a single compound"):
        deal(labels, usable, Split(), 0)
    labels, usable = labels_of({"a": 3, "b": 3, "c": 1}, binary=False, target="moa")
    warnings = deal(labels, usable, Split(), 0).warnings
    assert any("cannot be promoted" in text for text in warnings)


def test_of_wells_as_units_half_of_each_plates_controls_only_normalise():
    table = pd.DataFrame([(f"P{p}/{kind}{i}", kind, label)
                          for p, size in enumerate((8, 5, 1))
                          for kind, label, count in (("drug", "t", 6), ("DMSO", "not_t", size))
                          for i in range(count)],
                         columns=["Metadata_Group", "Metadata_Compound", "Label"])
    wells = table[["Metadata_Group"]].assign(
        Metadata_Plate=table["Metadata_Group"].str[:2], Metadata_Well=table["Metadata_Group"])
    question = Question("t", ("not_t", "t"), True, "well")
    kept, kept_wells, warning = set_controls_aside(table, wells, question)
    assert set(kept["Metadata_Group"]) == set(kept_wells["Metadata_Group"])
    controls = kept[kept["Label"] == "not_t"]["Metadata_Group"].str[:2].value_counts()
    assert controls.to_dict() == {"P0": 4, "P1": 3, "P2": 1}
    assert (kept["Label"] == "t").sum() == 18
    assert warning.startswith("6 of 14 control wells")
    again, _, _ = set_controls_aside(table.iloc[::-1], wells.iloc[::-1], question)
    assert set(again["Metadata_Group"]) == set(kept["Metadata_Group"])


def families(sizes, seed=0):
    """Compounds in families of the given sizes; hits are spread at random."""
    rng = np.random.default_rng(seed)
    names = [f"f{number:03d}" for number, size in enumerate(sizes) for _ in range(size)]
    return pd.DataFrame({
        "Metadata_Group": [f"g{i}" for i in range(len(names))],
        "Metadata_Compound": [f"C{i}" for i in range(len(names))],
        "Label": np.where(rng.random(len(names)) < 0.3, "t", "not_t"),
        "Metadata_Family": names})


def test_a_family_is_on_one_side_of_every_split_and_folds_stay_even():
    table = assign_folds(families([12, 9, 7, *[3] * 12, *[1] * 60]), 5, 3, 0.2, seed=0)
    for column in ("Holdout", "Fold_0", "Fold_1", "Fold_2"):
        assert (table.groupby("Metadata_Family")[column].agg(lambda own: len(set(own))) == 1).all()
    for repeat in range(3):
        inside = table[~table["Holdout"]]
        for _, part in (*inside.groupby("Label"), ("all", inside)):
            sizes = np.bincount(part[f"Fold_{repeat}"], minlength=5)
            assert sizes.max() - sizes.min() <= 3
    assert (table["Fold_0"] != table["Fold_1"]).any()
    quota = (0.2 * table.groupby("Label").size()).astype(int)
    held = table.groupby("Label")["Holdout"].sum()
    assert (held <= quota).all() and (held >= quota - 2).all()


def test_families_of_one_compound_each_hold_out_the_same_compounds_as_compounds_do():
    alone = groups({"a": 30, "b": 10})
    whole = alone.assign(Metadata_Family=alone["Metadata_Group"])
    one, two = (assign_folds(table, 5, 1, 0.2, seed=0) for table in (alone, whole))
    assert one["Holdout"].tolist() == two["Holdout"].tolist()
    for _, part in two[~two["Holdout"]].groupby("Label"):
        sizes = np.bincount(part["Fold_0"], minlength=5)
        assert sizes.max() - sizes.min() <= 1


def test_too_few_families_are_refused_with_the_remedy():
    with pytest.raises(MoascopeError, match=r"form 3 families outside the hold-out.*split\.group"):
        assign_folds(families([5, 5, 5]), 5, 1, 0.0, seed=0)
    labels, usable = labels_of({"not_t": 20, "t": 6})
    of = labels.groups
    one = of["Metadata_Group"].where(of["Label"] == "not_t", "all hits")
    of["Metadata_Family"] = one
    with pytest.raises(MoascopeError, match=r"the compounds of 't' are 1 scaffolds"):
        deal(labels, usable, Split(group="scaffold", holdout=0), 0)


def test_a_class_of_one_family_cannot_be_tested():
    table = groups({"a": 4, "b": 4, "c": 4})
    table["Metadata_Family"] = ["x", "x", "x", "x", *"stuvwyzr"]
    dealt = assign_folds(table, 3, 1, 0.0, seed=0)
    assert untestable_classes(dealt) == ["a"]


def test_families_with_a_rare_class_go_to_different_folds():
    """By hand: 1/2 of the rare class weighs more than 1/23 of the frequent one.

    F, with 12 frequent compounds, is dealt first, and G, with 10 and a rare one, to the other
    fold. H has one of each: to F's fold it adds 25/23 + 1/2, to G's 21/23 + 3/2.
    """
    sizes = {"F": (12, 0), "G": (10, 1), "H": (1, 1)}
    rows = [(family, label) for family, (frequent, rare) in sizes.items()
            for label in ["frequent"] * frequent + ["rare"] * rare]
    table = pd.DataFrame(rows, columns=["Metadata_Family", "Label"])
    table["Metadata_Group"] = [f"C{row}" for row in range(len(table))]
    dealt = assign_folds(table, 2, 3, 0.0, seed=0)
    for repeat in range(3):
        fold = dealt.groupby("Metadata_Family")[f"Fold_{repeat}"].agg(["min", "max"])
        assert (fold["min"] == fold["max"]).all()
        assert fold.loc["H", "min"] == fold.loc["F", "min"] != fold.loc["G", "min"]


def test_units_without_a_usable_picture_are_left_out_and_named():
    labels, _ = labels_of({"not_t": 8, "t": 8})
    labels = dataclasses.replace(labels, warnings=("before",))
    usable = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Site": 1,
                           "Metadata_Well": [f"g{i}" for i in range(10) for _ in range(2)]})
    kept, wells, warnings = usable_units(labels, usable)
    assert kept["Metadata_Group"].tolist() == [f"g{i}" for i in range(10)]
    assert wells["Metadata_Group"].tolist() == [f"g{i}" for i in range(10)]
    assert warnings == ["before", "6 annotated compounds without a usable picture left out: C10, "
                                  "C11, C12, C13, C14 and 1 more."]
    assert list(labels.warnings) == ["before"]
    _, _, warnings = usable_units(labels, pd.concat([usable, usable.assign(
        Metadata_Well=[f"g{i % 5 + 11}" for i in range(20)])]))
    assert warnings[1] == "1 annotated compound without a usable picture left out: C10."
    whole = pd.DataFrame({"Metadata_Plate": "P", "Metadata_Well": [f"g{i}" for i in range(16)]})
    assert usable_units(labels, whole)[2] == ["before"]


def test_the_report_of_a_split_counts_units_and_says_what_was_compared():
    labels, usable = labels_of({"a": 10, "b": 5, "c": 1}, binary=False, target="moa")
    params = Split(folds=4, repeats=3)
    dealt = deal(labels, usable, params, 0)
    assert dealt.question.untestable == ("c",)
    assert dealt.warnings == [
        "1 of 3 classes have a single compound (c): the model learns them, but no unseen compound "
        "of theirs can be scored, so they are left out of the scores."]
    assert split_report(dealt, {"wells": 16}, params) == {
        "checked_disjoint": {"wells": 16}, "units": {"in_folds": 13, "held_out": 3},
        "classes": {"a": {"in_folds": 8, "held_out": 2}, "b": {"in_folds": 4, "held_out": 1},
                    "c": {"in_folds": 1, "held_out": 0}},
        "folds": 4, "repeats": 3, "untestable": ("c",), "warnings": dealt.warnings}


def test_families_too_large_for_the_hold_out_are_named_with_the_remedy():
    labels, usable = labels_of({"not_t": 20, "t": 6})
    hits = labels.groups["Label"] == "t"
    labels.groups["Metadata_Family"] = labels.groups["Metadata_Group"].where(
        ~hits, [f"f{i % 3}" for i in range(26)])
    dealt = deal(labels, usable, Split(group="scaffold", folds=3), 0)
    assert dealt.groups.loc[~hits, "Holdout"].sum() == 4
    assert not dealt.groups.loc[hits, "Holdout"].any()
    assert dealt.warnings == [
        "No scaffold with compounds of 't' is small enough for split.holdout = 0.2, so the model "
        "cannot be promoted. Raise split.holdout, or use split.group=compound."]
    assert deal(labels, usable, Split(group="scaffold", folds=3, holdout=0), 0).warnings == []


def test_wells_as_units_are_dealt_without_the_controls_that_normalise():
    labels, usable = labels_of({"not_t": 12, "t": 9}, unit="well")
    dealt = deal(labels, usable, Split(folds=3), 0)
    assert dealt.groups["Label"].value_counts().to_dict() == {"t": 9, "not_t": 6}
    assert set(dealt.wells["Metadata_Group"]) == set(dealt.groups["Metadata_Group"])
    assert dealt.warnings == ["6 of 12 control wells normalise the other wells and are not scored "
                              "themselves."]


def test_folds_are_drawn_from_the_seed_and_the_hold_out_from_the_names():
    """Written down here, so that a change of the draw is seen: other folds are another study."""
    import hashlib

    table = assign_folds(groups({"a": 9, "b": 6}), 3, 2, 0.34, seed=4)
    for label, share in (("a", 3), ("b", 2)):
        of = table[table["Label"] == label].set_index("Metadata_Group")["Holdout"]
        first = sorted(of.index, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        assert set(of.index[of]) == set(first[:share])
    pool = np.flatnonzero(~table["Holdout"])
    for repeat in range(2):
        rng = np.random.default_rng([4, repeat])
        shuffled = rng.permutation(pool)
        dealt = sorted(shuffled, key=lambda row: table["Label"][row])
        expected = dict(zip(dealt, rng.permutation(3)[np.arange(len(dealt)) % 3], strict=True))
        assert [expected.get(row, -1) for row in range(15)] == table[f"Fold_{repeat}"].tolist()
