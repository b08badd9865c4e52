"""Noise scores chance, in every unit, normalisation and kind of question.

Screens without any signal, drawn at random. The mean over draws of average precision minus the
null's mean must be within three of its standard errors and 0.02 of zero.
"""

import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from moascope.evaluation.references import REFERENCES, out_of_fold_scores, unit_rows
from moascope.learning.cross_fit import cross_fit
from moascope.learning.dealing import deal
from moascope.learning.examples import Examples
from moascope.learning.nested import ranking_score
from moascope.params import Head, Split, Train
from moascope.screen.question import Question
from moascope.screen.targets import Labels
from moascope.screen.wells import well_name

DRAWS = 24
TRAIN = Train(panels="pooled", batch_size=64)


def screen(seed, unit, binary, features):
    """Two plates of noise with plate effects, dealt as `split` deals them."""
    rng = np.random.default_rng(seed)
    compounds = 1 if unit == "well" else 36
    rows, values = [], []
    for plate in range(2):
        shift, scale = rng.normal(size=features), rng.uniform(0.5, 2, features)
        for number in range(60):
            control = number >= 36
            rows.append((f"P{plate}", well_name(number // 10, number % 10), 1, "B", "",
                         "DMSO" if control else f"C{number % compounds}", 1.0,
                         "negative" if control else ""))
            values.append(shift + scale * rng.normal(size=features))
    meta = pd.DataFrame(rows, columns=[
        "Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Batch", "Metadata_Panel",
        "Metadata_Compound", "Metadata_Concentration_uM", "Metadata_Control"])
    treated = meta["Metadata_Control"] == ""
    if unit == "well":
        name = meta["Metadata_Plate"] + "/" + meta["Metadata_Well"]
        label, own = np.where(treated, "t", "not_t"), np.ones(len(meta), bool)
    else:
        name, own = meta["Metadata_Compound"], treated.to_numpy()
        kinds = ["t", "not_t", "not_t"] if binary else list("abcd")
        of = dict(zip(sorted(set(name[own])), rng.permutation(np.resize(kinds, compounds)),
                      strict=True))
        label = name.map(of).fillna("").to_numpy()
    wells = meta[["Metadata_Plate", "Metadata_Well"]].assign(Metadata_Group=name)[own]
    groups = pd.DataFrame({"Metadata_Group": name, "Metadata_Compound": meta["Metadata_Compound"],
                           "Label": label})[own].drop_duplicates("Metadata_Group")
    classes = ("not_t", "t") if binary else tuple("abcd")
    question = Question("t" if binary else "moa", classes, binary, unit)
    dealt = deal(Labels(question, groups.assign(Metadata_MoA="", gpcr_action="")
                        .reset_index(drop=True), wells, ()), meta,
                 Split(folds=4, repeats=1, holdout=0.0), seed)
    row_of = pd.Series(np.arange(len(dealt.groups)), index=dealt.groups["Metadata_Group"])
    group = name.where(own).map(row_of).fillna(-1).astype(int).to_numpy()
    return Examples(meta=meta, features=np.asarray(values, np.float32), group=group,
                    names=tuple(f"Morphology_{i}" for i in range(features)),
                    groups=dealt.groups, question=dealt.question, panels=("",))


def excess(labels_and_scores, question):
    return [ranking_score(label, score, question) - question.null_mean(label)
            for label, score in labels_and_scores]


def is_chance(excesses):
    mean, error = np.mean(excesses), np.std(excesses, ddof=1) / np.sqrt(len(excesses))
    assert abs(mean) < 0.02 + 3 * error, (mean, error)


CASES = [(unit, binary) for unit in ("compound", "well") for binary in (True, False)
         if unit == "compound" or binary]


@pytest.mark.parametrize("how", ["none", "plate", "plate+sphere"])
@pytest.mark.parametrize(("unit", "binary"), CASES)
@pytest.mark.parametrize("layers", [0, 1])
def test_a_head_scores_noise_at_chance(unit, binary, how, layers):
    head = Head(layers=layers, width=8, epochs=8, learning_rate=0.01, normalisation=how, dropout=0)
    found = []
    start = zlib.crc32(f"{unit}{binary}{how}{layers}".encode())
    for draw in range(DRAWS // 4):
        examples = screen(start + draw, unit, binary, 150)
        label, logits = cross_fit(examples, head, TRAIN, draw).units()
        found += excess([(label, logits)], examples.question)
    is_chance(found)


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize(("unit", "binary"), CASES)
def test_a_reference_scores_noise_at_chance(unit, binary, kind):
    found = []
    for draw in range(DRAWS if kind != "trees" else DRAWS // 6):
        examples = screen(1000 + draw, unit, binary, 40)
        rows, group = unit_rows(examples)
        label = examples.group_label[group]
        score = out_of_fold_scores(kind, rows, label, examples.folds(0)[group][None],
                                   len(examples.question.classes), draw)
        found += excess([(label, score)], examples.question)
    is_chance(found)


@pytest.mark.parametrize("how", ["plate", "plate+sphere"])
@pytest.mark.parametrize(("controls", "features"), [(4, 5), (4, 200), (24, 200), (24, 20)])
def test_a_scored_control_is_transformed_like_any_other_well(how, controls, features):
    """However few controls there are: a row's distance from the middle tells nothing."""
    gaps = []
    for draw in range(40):
        examples = screen(draw, "well", True, features)
        few = examples.take(~((examples.group < 0) & (
            examples.meta.groupby(["Metadata_Plate", examples.group < 0]).cumcount() >= controls)
            .to_numpy()))
        size = np.log(np.square(few.normalised(how).features).sum(axis=1))
        gaps.append(size[few.label == 0].mean() - size[few.label == 1].mean())
    error = np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    assert abs(np.mean(gaps)) < 4 * error


def test_where_every_control_is_a_unit_nothing_normalises():
    examples = screen(0, "well", True, 20)
    every = replace(examples, group=np.arange(len(examples.meta)), _cache={},
                    groups=pd.DataFrame({"Label": ["t"] * len(examples.meta), "Holdout": False}))
    assert not every.controls.any()
    np.testing.assert_array_equal(every.normalised("plate+sphere").features, every.features)


def test_one_control_cannot_whiten():
    examples = screen(0, "well", True, 20)
    other = np.flatnonzero(examples.group < 0)[1:]
    one = examples.take(np.setdiff1d(np.arange(len(examples.meta)), other))
    np.testing.assert_array_equal(one.normalised("moderated+sphere").features, one.features)
