"""Consistency: mechanisms whose compounds look alike are found, with no model and no held-out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from learnable import make_examples

from moascope.evaluation.consistency import measure_consistency
from moascope.evaluation.references import unit_rows
from moascope.params import Activity
from moascope.screen.question import Question

SETTINGS = Activity(null_size=300)


def compounds_of(examples, active=()):
    names = examples.groups["Metadata_Compound"]
    return pd.DataFrame({"Metadata_Compound": names,
                         "active": np.where(names.isin(list(active)), "yes", "no")})


def with_mechanisms(examples, terms):
    return replace(examples, groups=examples.groups.assign(Metadata_MoA=terms), _cache={})


def measured(examples, active=()):
    return measure_consistency(examples, compounds_of(examples, active), SETTINGS, 0)


def test_a_mechanism_that_looks_alike_is_consistent_and_its_active_compounds_are_counted():
    examples = make_examples(compounds=30, effect=4.0)
    table = measured(examples, active=["C0", "C1"]).set_index("Metadata_MoA")
    assert table.loc["a", "consistent"] == "yes"
    assert table.loc["a", "mean_average_precision"] > 2 * table.loc["a", "null_mean"]
    in_folds = examples.groups[~examples.groups["Holdout"]]
    assert table["compounds"].to_dict() == in_folds["Metadata_MoA"].value_counts().to_dict()
    expected = in_folds[in_folds["Metadata_Compound"].isin(["C0", "C1"])]["Metadata_MoA"]
    assert table["active_compounds"].sum() == len(expected)
    assert (table["corrected_p_value"] >= table["p_value"]).all()


def test_mechanisms_of_noise_are_not_consistent():
    found = []
    for seed in range(6):
        examples = with_mechanisms(make_examples(compounds=36, effect=0.0, seed=seed),
                                   [f"m{i % 6}" for i in range(36)])
        found.append(measured(examples))
    table = pd.concat(found)
    assert (table["consistent"] == "yes").mean() <= 0.03
    assert (table["p_value"] < 0.05).mean() < 0.2


def test_the_score_is_that_of_copairs():
    from copairs.map import average_precision

    examples = with_mechanisms(make_examples(compounds=24, effect=1.0),
                               [f"m{i % 3}" for i in range(24)])
    profiles, group = unit_rows(examples)
    meta = examples.groups.iloc[group][["Metadata_MoA"]].reset_index(drop=True)
    theirs = average_precision(meta, profiles, ["Metadata_MoA"], [], [], ["Metadata_MoA"],
                               progress_bar=False)
    expected = theirs.groupby("Metadata_MoA")["average_precision"].mean()
    table = measured(examples).set_index("Metadata_MoA")
    assert table["mean_average_precision"].to_dict() == pytest.approx(expected.to_dict(), abs=1e-6)


def test_a_compound_of_two_mechanisms_counts_for_both_and_an_unknown_one_for_none():
    terms = [("a | b", "a", "b", "")[i % 4] for i in range(30)]
    examples = with_mechanisms(make_examples(compounds=30), terms)
    kept = ~examples.groups["Holdout"].to_numpy()
    table = measured(examples).set_index("Metadata_MoA")
    for name in ("a", "b"):
        assert table.loc[name, "compounds"] == sum(
            name in text.split(" | ") for text, own in zip(terms, kept, strict=True) if own)
    assert "" not in table.index


def test_where_wells_are_units_or_too_little_is_known_the_table_is_empty():
    examples = make_examples()
    wells = replace(examples, question=Question("t", ("not_t", "t"), True, unit="well"), _cache={})
    for one in (wells, with_mechanisms(examples, [""] * 30)):
        table = measured(one)
        assert table.empty
        assert {"Metadata_MoA", "mean_average_precision", "corrected_p_value"} <= set(table)
