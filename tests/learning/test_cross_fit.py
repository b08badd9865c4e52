"""Heads that leave parts out: what they learn from, and what they predict."""

from functools import partial

import numpy as np
import pytest
from learnable import HEAD, TRAIN, make_examples

from moascope.errors import MoascopeError
from moascope.learning.cross_fit import Parts, cross_fit, leave_folds_out, masks_without
from moascope.learning.panels import fit_by_panel, predict_by_panel, training_rows


def test_no_model_learns_from_a_compound_that_it_predicts_or_that_is_held_out():
    examples = make_examples()
    parts = leave_folds_out(examples, repeat=1)
    assert len(parts.learns) == 3
    predicted = np.flatnonzero(parts.left_out_by >= 0)
    np.testing.assert_array_equal(predicted, np.flatnonzero(examples.in_folds))
    for fold, learns in enumerate(parts.learns):
        mine = set(examples.group[parts.left_out_by == fold])
        assert mine and not mine & set(examples.group[learns])
        assert not examples.held_out[examples.group[learns]].any()


def test_some_folds_alone_are_numbered_by_their_place():
    examples = make_examples()
    parts = leave_folds_out(examples, folds=[2, 0])
    fold = examples.fold_of_rows(0)
    np.testing.assert_array_equal(parts.left_out_by,
                                  np.select([fold == 2, fold == 0], [0, 1], -1))
    np.testing.assert_array_equal(parts.learns, masks_without(examples, [(0, 2), (0, 0)]))


@pytest.mark.parametrize("level", ["site", "well", "compound"])
def test_every_row_is_predicted_by_the_head_that_left_it_out(level):
    examples, head = make_examples(panels=2), HEAD.model_copy(update={"level": level})
    fitted = cross_fit(examples, head, TRAIN, seed=0)
    rows, sites = training_rows(examples, head)
    masks = masks_without(rows, [(0, fold) for fold in range(3)])
    every = predict_by_panel(fit_by_panel(rows, masks, head, TRAIN, 0), sites, TRAIN)
    fold = examples.fold_of_rows(0)
    for place, row in enumerate(fitted.rows):
        np.testing.assert_array_equal(fitted.logits[0, place], every[fold[row], row])


def test_each_labelling_has_models_and_labels_of_its_own():
    examples = make_examples(compounds=45)
    true = examples.group_label
    fitted = cross_fit(examples, HEAD, TRAIN, seed=0, labels=np.stack([true, 1 - true]))
    label, logits = fitted.units(0)
    turned, other = fitted.units(1)
    np.testing.assert_array_equal(turned, 1 - label)
    # A head that learns the opposite prefers the opposite class.
    for truth, values in ((label, logits), (turned, other)):
        assert (values.argmax(axis=1) == truth).mean() > 0.9


def test_a_unit_is_the_mean_of_its_rows():
    examples = make_examples(sites=3)
    fitted = cross_fit(examples, HEAD, TRAIN, seed=0)
    label, logits = fitted.units()
    groups = examples.group[fitted.rows]
    order = np.array(list(dict.fromkeys(groups)))
    np.testing.assert_array_equal(label, examples.group_label[order])
    expected = [fitted.logits[0][groups == group].mean(axis=0) for group in order]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_a_panel_that_shows_a_head_one_class_is_left_out_there_and_nowhere_else():
    examples = make_examples(compounds=30, panels=2)
    fold = examples.fold_of_rows(0)
    second = examples.panel == "panel1"
    # Of the second panel, positives are in fold 0 alone: the head without it sees none.
    kept = ~(second & (examples.label == 1) & (fold != 0))
    few = examples.take(kept)
    train = TRAIN.model_copy(update={"panels": "separate"})
    fitted = cross_fit(few, HEAD, train, seed=0)
    fold, second = few.fold_of_rows(0), few.panel == "panel1"
    np.testing.assert_array_equal(
        fitted.rows, np.flatnonzero((fold >= 0) & ~(second & (fold == 0))))
    alone = cross_fit(few.take(~second), HEAD, train, seed=0)
    np.testing.assert_allclose(fitted.logits[0][~second[fitted.rows]], alone.logits[0], atol=1e-5)


def test_a_panel_of_one_class_says_nothing_and_the_others_are_heard():
    examples = make_examples(compounds=30, panels=2)
    kept = (examples.panel == "panel0") | (examples.label == 0)
    train = TRAIN.model_copy(update={"panels": "separate"})
    fitted = cross_fit(examples.take(kept), HEAD, train, seed=0)
    assert set(fitted.heads) == {"panel0"}
    assert set(fitted.sites.panel[fitted.rows]) == {"panel0"}
    with pytest.raises(MoascopeError, match="No panel has enough annotated compounds"):
        cross_fit(examples.take(examples.label == 0), HEAD, train, seed=0)


def test_parts_may_be_anything_that_says_who_learns_from_what():
    examples = make_examples()

    def halves(rows, seed):
        side = np.random.default_rng(seed).integers(0, 2, len(rows.groups))[rows.group]
        inside = rows.in_folds
        return Parts(np.stack([inside & (side == 1), inside & (side == 0)]),
                     np.where(inside, side, -1))

    fitted = cross_fit(examples, HEAD, TRAIN, 0, partial(halves, seed=3))
    np.testing.assert_array_equal(fitted.rows, np.flatnonzero(examples.in_folds))
