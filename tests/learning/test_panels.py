"""What a head is given where panels share one."""

from dataclasses import replace

import numpy as np
from learnable import TRAIN, make_examples

from moascope.learning.panels import inputs


def test_a_shared_head_is_told_the_panel_of_each_row():
    examples = make_examples()
    panel = np.resize(["b", "a", "b"], len(examples.meta))
    examples = replace(examples, meta=examples.meta.assign(Metadata_Panel=panel),
                       panels=("a", "b", "c"))
    train = TRAIN.model_copy(update={"panels": "pooled"})
    given = inputs(examples, train)
    assert np.array_equal(given[:, : examples.features.shape[1]], examples.features)
    # A column per panel of the training, also of one that is not at hand.
    which = {"a": [1, 0, 0], "b": [0, 1, 0]}
    assert np.array_equal(given[:, examples.features.shape[1]:], [which[one] for one in panel])


def test_heads_of_their_own_and_a_single_panel_are_not_told():
    examples = make_examples()
    pooled = TRAIN.model_copy(update={"panels": "pooled"})
    one = replace(examples, meta=examples.meta.assign(Metadata_Panel="a"), panels=())
    assert inputs(one, pooled) is one.features
    two = replace(examples, panels=("a", "b"))
    assert inputs(two, TRAIN.model_copy(update={"panels": "separate"})) is two.features
