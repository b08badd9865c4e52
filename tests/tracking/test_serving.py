"""What a model server answers, and what it refuses."""

import importlib.util
import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from helpers import make_screen

import moascope
from moascope.screen.limits import PlaneError
from moascope.screen.rows import screen_from_rows


@pytest.fixture(scope="module")
def served():
    """The model as MLflow loads it, with a stand-in for its predictor."""
    path = Path(moascope.__file__).parent / "tracking" / "pyfunc.py"
    spec = importlib.util.spec_from_file_location("served_model", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # MLflow comments on type hints of a class that is defined outside a run.
        warnings.simplefilter("ignore", UserWarning)
        spec.loader.exec_module(module)
    model = module.MoascopeModel()
    model.predictor = None
    return model


@pytest.fixture
def screens(tmp_path, monkeypatch):
    folder = make_screen(tmp_path / "screens" / "one", plates=1, wells=4, controls=2)
    monkeypatch.setenv("MOASCOPE_SCREENS", str(tmp_path / "screens"))
    return folder


@pytest.fixture
def answers(monkeypatch):
    """The predictor reads its planes and answers, or raises what it is told to."""
    def answer(predictor, screen, level, jobs=1):
        if said is None:
            raise RuntimeError(f"broken at {screen.images}")
        return pd.DataFrame({"Metadata_Well": screen.sites["Metadata_Well"]}), tuple(said)

    said: list[str] | None = []

    def set_to(new):
        nonlocal said
        said = new

    monkeypatch.setattr("moascope.learning.predictor.predict_screen", answer)
    return set_to


def rows_of(folder: Path) -> pd.DataFrame:
    sites = pd.read_csv(folder / "load_data.csv", keep_default_na=False)
    layout = pd.read_csv(folder / "layout.csv", keep_default_na=False)
    return sites.merge(layout, on=["Metadata_Plate", "Metadata_Well"])


def refusal(served, rows, **params):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        served.predict(None, rows, params)
    return caught.value


def test_a_server_without_a_folder_of_screens_serves_nothing(served, screens, monkeypatch):
    monkeypatch.delenv("MOASCOPE_SCREENS")
    error = refusal(served, rows_of(screens), screen="one")
    assert "may read no screen" in error.message and error.get_http_status_code() == 400


@pytest.mark.parametrize("name", ["../else", "/etc", "a\0b", "a" * 300, "missing", "one/../../x"])
def test_a_folder_that_is_not_a_screen_of_the_server_is_refused_without_its_paths(
        served, screens, name):
    error = refusal(served, rows_of(screens), screen=name)
    assert error.get_http_status_code() == 400
    assert str(screens.parent) not in json.dumps(error.serialize_as_json())


def test_a_link_that_leads_out_is_not_followed(served, screens, answers, tmp_path):
    rows = rows_of(screens)
    file = screens / rows["FileName_DNA"][0]
    file.rename(tmp_path / "secret.tif")
    file.symlink_to(tmp_path / "secret.tif")
    error = refusal(served, rows, screen="one")
    assert "points outside the screen's folder" in error.message
    assert str(tmp_path) not in error.message


@pytest.mark.parametrize("name", ["a\0b.tif", "../a.tif", "/etc/passwd"])
def test_a_file_that_lies_elsewhere_is_a_bad_request(served, screens, answers, name):
    error = refusal(served, rows_of(screens).assign(FileName_DNA=name), screen="one")
    assert error.get_http_status_code() == 400


def test_an_unexpected_error_stays_on_the_server(served, screens, answers):
    answers(None)
    error = refusal(served, rows_of(screens), screen="one")
    assert error.get_http_status_code() == 500
    assert error.message == "The prediction failed. The server's log says why."
    assert str(screens.parent) not in error.serialize_as_json()


def test_warnings_of_a_partly_failed_prediction_reach_the_client(served, screens, answers):
    answers([f"well A01, site 1 is left out: {screens}/a.tif is missing."])
    table = served.predict(None, rows_of(screens), {"screen": "one"})
    assert set(table["Warnings"]) == {"well A01, site 1 is left out: one/a.tif is missing."}
    answers([])
    assert "Warnings" not in served.predict(None, rows_of(screens), {"screen": "one"})


def test_an_answer_is_json_also_where_a_concentration_is_unknown(served, screens, monkeypatch):
    def unknown(predictor, screen, level, jobs=1):
        return pd.DataFrame({"Metadata_Concentration_uM": [1.0, float("nan")],
                             "P_gpcr": [0.5, 0.25]}), ()

    monkeypatch.setattr("moascope.learning.predictor.predict_screen", unknown)
    table = served.predict(None, rows_of(screens), {"screen": "one"})
    assert json.loads(json.dumps(table.to_dict("records"), allow_nan=False)) == [
        {"Metadata_Concentration_uM": 1.0, "P_gpcr": 0.5},
        {"Metadata_Concentration_uM": None, "P_gpcr": 0.25}]


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda rows: rows.iloc[:0], "There are no rows. Send one per site."),
    (lambda rows: pd.concat([rows, rows[["FileName_DNA"]]], axis=1),
     "The rows have the column 'FileName_DNA' twice. Remove one."),
])
def test_rows_that_are_no_table_of_sites_are_a_sentence(served, screens, change, sentence):
    error = refusal(served, change(rows_of(screens)), screen="one")
    assert error.message == sentence and error.get_http_status_code() == 400


def test_a_request_may_be_csv_with_empty_cells(served, screens, answers):
    import io

    from mlflow.pyfunc.scoring_server import parse_csv_input

    from moascope.tracking.registry import signature

    rows = rows_of(screens).astype({"Metadata_Concentration_uM": object})
    rows.loc[0, "Metadata_Concentration_uM"] = ""
    taken = parse_csv_input(io.StringIO(rows.to_csv(index=False)),
                            signature(("DNA", "Actin"), ("not_gpcr", "gpcr")).inputs)
    assert len(served.predict(None, taken, {"screen": "one"})) == len(rows)


@pytest.mark.parametrize(("column", "name"), [
    ("FileName_DNA", "x" * 256), ("FileName_DNA", "images/" + "\u00b5" * 128),
    ("FileName_DNA", "\ud800.tif"), ("Metadata_Plate", "\udfff")])
def test_a_name_that_no_file_can_have_is_a_bad_request(served, screens, answers, column, name):
    rows = rows_of(screens).astype({column: object})
    rows.loc[0, column] = name
    error = refusal(served, rows, screen="one")
    assert error.get_http_status_code() == 400
    assert "at most 255 bytes" in error.message or "surrogate" in error.message


def test_an_empty_concentration_is_none_as_csv_gives_it(screens, tmp_path):
    for empty in ("", None, float("nan")):
        rows = rows_of(screens).astype({"Metadata_Concentration_uM": object})
        rows.loc[0, "Metadata_Concentration_uM"] = empty
        screen = screen_from_rows(rows, screens, tmp_path)
        assert screen.layout["Metadata_Concentration_uM"].isna().any()


def test_the_kind_of_a_plane_error_survives(tmp_path):
    from moascope.screen.planes import read_plane

    with pytest.raises(PlaneError) as caught:
        read_plane(tmp_path / ("x" * 400))
    assert "cannot be opened: File name too long" in caught.value.problems[0]
