from pathlib import Path

import pytest
import yaml

from moascope.errors import MoascopeError
from moascope.params import Params
from moascope.params_file import load_params, parse_params
from moascope.passwords import address_shown

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folds", [0, 1, 2])
def test_too_few_folds_are_refused_with_the_number_that_helps(folds):
    with pytest.raises(MoascopeError, match=r"split\.folds = \d .* use split\.folds=3 or more"):
        parse_params({"split": {"folds": folds}})
    assert parse_params({"split": {"folds": 3}}).split.folds == 3


def test_the_shipped_file_holds_every_parameter_and_its_default():
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    defaults = Params().model_dump(by_alias=True, mode="json")
    assert shipped.keys() == defaults.keys()
    for section, values in defaults.items():
        if isinstance(values, dict):
            assert shipped[section].keys() == values.keys(), section
    load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(("given", "preset", "signal", "shared"), [
    ({}, "teaching", 2.0, 4.5),
    ({"preset": "literature"}, "literature", 2.0, 0.0),
    ({"preset": "literature", "signal": 6}, "literature", 6.0, 0.0),
    ({"preset": "null"}, "null", 0.0, 0.0),
    ({"preset": None}, "null", 0.0, 0.0),
    ({"signal": None, "shared_gpcr": 1}, "teaching", 2.0, 1.0),
    ({"signal": 0}, "teaching", 0.0, 4.5),
])
def test_a_single_value_overrides_the_preset_of_the_simulated_screen(given, preset, signal, shared):
    simulated = parse_params({"simulated": given}).simulated
    assert (simulated.preset, simulated.signal, simulated.shared_gpcr) == (preset, signal, shared)


@pytest.mark.parametrize("preset", ["hard", 3, ["teaching"]])
def test_an_unknown_preset_names_those_there_are(preset):
    with pytest.raises(MoascopeError, match="'teaching', 'literature' or 'null'"):
        parse_params({"simulated": {"preset": preset}})


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    with pytest.raises(MoascopeError) as error:
        parse_params({"train": {"dropuot": 0.5}}, "params.yaml")
    assert str(error.value) == (
        "params.yaml: 'train.dropuot' is not a parameter. Did you mean 'train.dropout'?"
    )


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"train": {"dropout": 1.5}}, "train.dropout = 1.5"),
        ({"split": {"folds": 1}}, "split.folds = 1"),
        ({"embed": {"backbone": "vgg"}}, "embed.backbone = 'vgg'"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_a_value_out_of_range_is_named(content, key):
    with pytest.raises(MoascopeError, match="cannot be used") as error:
        parse_params(content)
    assert key in str(error.value)


def test_all_wrong_keys_are_reported_at_once():
    with pytest.raises(MoascopeError) as error:
        parse_params({"taget": "moa", "embed": {"bakbone": "x"}})
    assert len(error.value.problems) == 2


def test_a_missing_file_says_where_to_go(tmp_path):
    with pytest.raises(MoascopeError, match="root of a moascope project"):
        load_params(tmp_path / "params.yaml")


def test_broken_yaml_is_a_sentence(tmp_path):
    (tmp_path / "params.yaml").write_text("train: [")
    with pytest.raises(MoascopeError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_parameters_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Params().train.dropout = 0.1


@pytest.mark.parametrize(("address", "shown"), [
    ("postgresql://anna:p@ss@db/study?sslmode=off", "postgresql://db/study"),
    ("https://anna:secret@mlflow.lab/x", "https://mlflow.lab/x"),
    ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ("data/tune/study.journal", "data/tune/study.journal"),
])
def test_an_address_is_shown_without_who_and_password(address, shown):
    assert address_shown(address) == shown
