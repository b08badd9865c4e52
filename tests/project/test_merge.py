"""A newer params.yaml comes in; a person's values, comments and layout stay."""

import pytest
import yaml

from moascope.errors import MoascopeError
from moascope.params_file import parse_params
from moascope.project.merge import merge_params, set_values
from moascope.project.shipped import PARAMS, shipped

BASE = """\
# Every parameter.

target: gpcr            # gpcr | moa

train:                  # the head
  layers: 1
  dropout: 0.2          # share of units
                        # that are left out
  level: site           # site | well

tune:
  trials: 12
  space:
    layers: [0, 1]
    width: [8]
"""
NEW = """\
# Every parameter.

target: gpcr            # gpcr | moa
seed: 0                 # of all random numbers

train:                  # the head
  layers: 2
  dropout: 0.2          # share of units
                        # that are left out
  # of the optimiser
  rate: 0.01            # its step

tune:
  trials: 24
  space:
    layers: [0, 1]
    width: [8]

report:                 # pages
  dpi: 100
"""


def changes(own, base=BASE, new=NEW):
    text, found = merge_params(own, base, new)
    return text, {".".join(change.path): change.kind for change in found}


def test_an_untouched_file_becomes_the_new_one():
    text, kinds = changes(BASE)
    assert yaml.safe_load(text) == yaml.safe_load(NEW)
    assert kinds == {"seed": "added", "train.layers": "moved", "train.rate": "added",
                     "train.level": "removed", "tune.trials": "moved", "report": "added"}
    # New keys come with what is said about them, next to the same neighbours.
    assert "                        # that are left out\n  # of the optimiser\n  rate: 0.01" in text
    assert "target: gpcr            # gpcr | moa\nseed: 0                 # of all" in text
    assert text.endswith("\n\nreport:                 # pages\n  dpi: 100\n")


def test_a_persons_values_and_comments_stay_as_they_are():
    own = (BASE.replace("layers: 1\n", "layers: 3   # tried on Monday\n")
           .replace("trials: 12", "trials: 500").replace("width: [8]", "width: [9]  # mine"))
    text, kinds = changes(own)
    assert "layers: 3   # tried on Monday\n" in text
    assert "    width: [9]  # mine\n" in text
    assert kinds["train.layers"] == kinds["tune.trials"] == "kept"
    assert yaml.safe_load(text)["tune"] == {"trials": 500, "space": {"layers": [0, 1],
                                                                    "width": [9]}}


def test_what_a_person_removed_does_not_come_back():
    text, kinds = changes(BASE.replace("    layers: [0, 1]\n", ""))
    assert yaml.safe_load(text)["tune"]["space"] == {"width": [8]}
    assert "tune.space.layers" not in kinds


def test_a_key_of_the_persons_own_stays():
    own = BASE + "mine:\n  a: 1\n"
    text, _ = changes(own)
    assert yaml.safe_load(text)["mine"] == {"a": 1}


def test_nothing_to_do_changes_no_byte():
    for own in (NEW, NEW.replace("layers: 2", "layers: 9")):
        assert merge_params(own, NEW, NEW) == (own, [])


def test_merging_twice_is_merging_once():
    own = BASE.replace("layers: 1\n", "layers: 3\n")
    once, _ = merge_params(own, BASE, NEW)
    assert merge_params(once, NEW, NEW) == (once, [])


@pytest.mark.parametrize("own", [
    BASE.replace("  layers: 1\n", "    layers: 1\n").replace("  dropout", "    dropout")
        .replace("  level", "    level"),
    "target: moa\ntrain: {layers: 1, level: well}\ntune: {trials: 12, space: {width: [8]}}\n",
    "target: moa\ntrain:\n  level: site\ntune:\n  trials:\n    12\n  space:\n    width:\n    - 8\n",
    "target: moa\ntrain: {}\ntune:\n  trials: 12   # no newline",
])
def test_other_ways_to_write_yaml_are_merged_too(own):
    text, kinds = changes(own)
    merged = yaml.safe_load(text)
    parsed = yaml.safe_load(own)
    assert merged["train"]["rate"] == 0.01 and "level" not in merged["train"]
    assert merged["report"] == {"dpi": 100}
    assert merged["tune"]["trials"] == 24 and merged["target"] == parsed["target"]
    assert kinds["tune.trials"] == "moved"


def test_a_list_over_several_lines_is_replaced_whole():
    base = "arms:\n  - a\n  - b\nlast: 1\n"
    new = "arms:\n  - a\n  - c\n  - d\nlast: 1\n"
    assert merge_params(base, base, new)[0] == new
    assert merge_params("arms: [a, b]  # mine\nlast: 2\n", base, new)[0] == (
        "arms:\n  - a\n  - c\n  - d\nlast: 2\n")


@pytest.mark.parametrize(("own", "words"), [
    ("train: [", "not valid YAML"),
    ("train: " + 5_000 * "[", "not valid YAML"),
    ("train: 2021-02-31", "not valid YAML"),
    ("- a\n- b\n", "single value"),
    ("old: &t {layers: 1, level: site}\ntrain:\n  <<: *t\n", "cannot be edited in place"),
])
def test_what_cannot_be_merged_is_reported(own, words):
    with pytest.raises(MoascopeError, match=words):
        merge_params(own, BASE, NEW)


def test_every_section_of_the_real_file_can_be_added_to_a_project_that_lacks_it():
    """Each section and each key in turn is taken away from an old project's file and base."""
    new = shipped(PARAMS)
    whole = yaml.safe_load(new)
    lines = new.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line[0].isalpha()]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        old = "".join(lines[:start] + lines[stop:])
        text, found = merge_params(old, old, new)
        assert yaml.safe_load(text) == whole
        assert [change.kind for change in found] == ["added"]
        parse_params(yaml.safe_load(text))


def test_values_are_set_in_place_and_everything_else_stays():
    text = """\
# mine
target: gpcr            # which
acquire:
  source: simulated     # from where
  path: screen
simulated: {size: 128}
"""
    changed = set_values(text, {"target": "moa", "acquire.source": "folder",
                                "acquire.path": "/a b/c: d", "acquire.allow_outside": True})
    assert changed == """\
# mine
target: moa            # which
acquire:
  allow_outside: true
  source: folder     # from where
  path: '/a b/c: d'
simulated: {size: 128}
"""
    with pytest.raises(MoascopeError, match=r"lacks a section of embed\.backbone"):
        set_values(text, {"embed.backbone": "profiles"})
