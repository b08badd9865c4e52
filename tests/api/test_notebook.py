"""What a person does in a notebook, on a tiny screen."""

import json
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import make_screen
from sklearn.dummy import DummyClassifier
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score

import moascope

LOADED_LATE = ("numpy", "pandas", "pydantic", "yaml", "matplotlib", "keras", "sklearn")
TARGET = "tubulin inhibitor"
QUICK = {"epochs": 8, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook") / "screen"
    return moascope.read_screen(make_screen(folder, plates=3, wells=24, sites=1, compounds=20,
                                            controls=4, channels=("DNA",), effect=2.0))


@pytest.fixture(scope="module")
def features(screen):
    return moascope.extract_features(screen, "morphology", crop=64, crops=1)


@pytest.fixture(scope="module")
def folds(screen, features):
    return moascope.make_folds(screen, features, TARGET, folds=3, repeats=2, holdout=0.2)


@pytest.fixture(scope="module")
def result(features, folds):
    return moascope.cross_validate(features, folds, QUICK)


@pytest.fixture(scope="module")
def evaluation(result):
    return moascope.evaluate(result, bootstraps=50, permutations=99, refits=1)


@pytest.fixture
def plt():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip()


# The package


def test_importing_moascope_loads_nothing_of_it():
    assert fresh("import sys, moascope\n"
                 f"print([m for m in {LOADED_LATE} if m in sys.modules], moascope.__version__)"
                 ) == f"[] {moascope.__version__}"


def test_asking_what_there_is_loads_nothing_either():
    assert fresh("import sys, moascope\nnames = dir(moascope)\n"
                 "print('cross_validate' in names, set(moascope.__all__) <= set(names),\n"
                 f"      [m for m in {LOADED_LATE} if m in sys.modules])") == "True True []"


def test_every_public_name_is_there_and_documented():
    for name in moascope.__all__:
        value = getattr(moascope, name)
        assert name == "__version__" or value.__doc__, name


@pytest.mark.parametrize("name", [name for name in moascope.__all__ if name[0].islower()])
def test_every_function_says_what_it_raises_and_shows_an_example(name):
    text = getattr(moascope, name).__doc__
    sections = ["Parameters", "Returns", "Examples"]
    if name not in ("plot_precision_recall", "plot_comparison"):
        sections.append("Raises")
    assert [part for part in sections if f"{part}\n    ---" not in text] == []


def test_the_names_for_checkers_are_the_names_that_are_there():
    homes = [name for names in moascope._HOMES.values() for name in names]
    assert sorted([*homes, "__version__"]) == sorted(moascope.__all__)


def test_checkers_know_the_types_of_what_is_imported_late(tmp_path):
    """As an editor sees a notebook's code, without anything of ours switched off."""
    code = tmp_path / "notebook.py"
    code.write_text("import moascope\n\nscreen = moascope.read_screen('x')\n"
                    "reveal_type(screen.channels)\nreveal_type(moascope.load_model('m'))\n"
                    "moascope.plot_plate(screen.layout, 3)\n")
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    done = subprocess.run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable,
                           "--outputjson", str(code)], cwd=tmp_path, capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    said = {one["range"]["start"]["line"] + 1: one["message"] for one in found}
    assert "tuple[str, ...]" in said[4]
    assert "Predictor" in said[5]
    assert '"Literal[3]" is not assignable to "str"' in said[6]
    assert not [one for one in found if one["severity"] == "error" and
                one["range"]["start"]["line"] != 5]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'crossvalidate'"):
        moascope.crossvalidate  # noqa: B018


# Screens and features


def test_a_simulated_screen_is_read_back(tmp_path):
    made = moascope.simulate_screen(tmp_path / "made", format=96, compounds=8, fields=1, size=64,
                                    panels=["A549 ACTB-RAB5A"], batches=1)
    assert repr(made).startswith("Screen(")
    assert len(made.annotations) >= 8
    with pytest.raises(moascope.MoascopeError, match=r"simulated\.compound"):
        moascope.simulate_screen(tmp_path / "other", compound=8)


def test_an_imported_screen_takes_text_as_paths(screen, tmp_path):
    imported = moascope.import_plates(str(screen.images / "images"), str(tmp_path / "out"),
                                      kind="regex", pattern=(
        r"(?P<plate>[^/]+)/(?P<well>[A-Z]\d+)_s(?P<site>\d)_(?P<channel>\w+)\.tif"))
    assert len(imported.screen.sites) == len(screen.sites)
    assert "72 sites" in repr(imported)


def test_features_are_one_row_per_site_with_the_names_of_the_field(screen, features):
    assert len(features) == len(screen.sites)
    meta = [name for name in features if name.startswith("Metadata_")]
    assert {"Metadata_Plate", "Metadata_Well", "Metadata_Site", "Metadata_Compound",
            "Metadata_Concentration_uM", "Metadata_Control", "Metadata_MoA"} <= set(meta)
    values = features.drop(columns=meta)
    assert all(name.split("_")[0] in ("Count", "Intensity", "Morphology") for name in values)
    assert (values.dtypes == "float32").sum() >= len(values.columns) - 6
    joined = features.merge(screen.layout, on=["Metadata_Plate", "Metadata_Well"])
    assert joined["Metadata_Compound_x"].equals(joined["Metadata_Compound_y"])


def test_a_cache_gives_the_same_features_and_is_one_that_the_pipeline_can_read(screen, features,
                                                                               tmp_path):
    again = moascope.extract_features(screen, "morphology", crop=64, crops=1, cache=tmp_path)
    pd.testing.assert_frame_equal(again, features)
    pd.testing.assert_frame_equal(moascope.read_features(tmp_path / "embed", screen), features)


def test_an_unreadable_site_is_left_out_with_a_warning(tmp_path):
    folder = make_screen(tmp_path / "screen", channels=("DNA",))
    next((folder / "images/Plate1").glob("*.tif")).write_bytes(b"no image")
    screen = moascope.read_screen(folder)
    with pytest.warns(UserWarning, match="left out|cannot|not"):
        table = moascope.extract_features(screen, "morphology", crop=64, crops=1)
    assert len(table) == len(screen.sites) - 1


@pytest.mark.parametrize(("call", "said"), [
    (lambda s, f: moascope.extract_features(s, "vgg"), "'vgg' is not a backbone"),
    (lambda s, f: moascope.extract_features(s, crops=0), "crops = 0"),
    (lambda s, f: moascope.extract_features(s, crps=2), "crps"),
    (lambda s, f: moascope.read_features("nowhere", s), "holds no plate with features"),
    (lambda s, f: moascope.add_metadata(f.drop(columns="Metadata_Well"), s),
     "no column Metadata_Well"),
    (lambda s, f: moascope.add_metadata(f.assign(Metadata_Plate="other"), s),
     "No row of the profiles is a well of the screen"),
    (lambda s, f: moascope.add_metadata(f.assign(note="words"), s), "note are not numbers"),
    (lambda s, f: moascope.make_folds(s, f.drop(columns="Metadata_Control")),
     "no column Metadata_Control"),
    (lambda s, f: moascope.make_folds(s, f[[c for c in f if c.startswith("Metadata_")]]),
     "no feature"),
    (lambda s, f: moascope.add_metadata(f.assign(Metadata_Well="Z99"), s), "'Z99' is not a well"),
    (lambda s, f: moascope.add_metadata(f.assign(Metadata_QC_Pass="no"), s), "True or False"),
    (lambda s, f: moascope.add_metadata(pd.concat([f, f[["Count_Nuclei"]]], axis=1), s),
     "Count_Nuclei twice"),
    (lambda s, f: moascope.add_metadata(f.assign(Count_Nuclei=np.inf), s), "infinite values"),
    (lambda s, f: moascope.add_metadata(f.assign(Count_Nuclei=1e300), s), "infinite values"),
    (lambda s, f: moascope.make_folds(s, f, "no such mechanism"), "no such mechanism"),
    (lambda s, f: moascope.make_folds(s, f, folds=1), r"split\.folds = 1"),
    (lambda s, f: moascope.make_folds(s, f, TARGET, folds=19, holdout=0.2), "cannot be dealt"),
    (lambda s, f: moascope.read_folds("nowhere"), "holds no folds: target.json, groups"),
    (lambda s, f: moascope.read_screen("nowhere"), "is not a folder"),
    (lambda s, f: moascope.load_model("nowhere"), "is not a moascope model"),
])
def test_a_mistake_is_one_sentence_that_names_it(screen, features, call, said):
    with pytest.raises(moascope.MoascopeError, match=said):
        call(screen, features)


# Folds


def test_folds_are_by_compound_and_held_out_ones_are_in_none(features, folds):
    seen = []
    for train, test in folds.split(features):
        compounds = features["Metadata_Compound"].to_numpy()
        assert not set(compounds[train]) & set(compounds[test])
        seen += list(test)
    held_out = folds.groups.loc[folds.groups["Holdout"], "Metadata_Compound"]
    assert len(held_out) == 4
    assert len(seen) == len(set(seen))
    rest = np.setdiff1d(np.arange(len(features)), seen)
    assert set(features["Metadata_Compound"].iloc[rest]) == {"DMSO", *held_out}
    assert "3 folds x 2, 4 held out" in repr(folds)


def test_scikit_learn_takes_the_folds(features, folds):
    y = folds.labels(features)
    assert list(y == "") == list(features["Metadata_Control"] == "negative")
    treated = features["Metadata_Control"] != "negative"
    assert list((y == TARGET)[treated]) == list(features["Metadata_MoA"][treated] == TARGET)
    scores = cross_val_score(DummyClassifier(), features[["Count_Nuclei"]], y,
                             cv=list(folds.split(features, repeat=1)))
    assert len(scores) == 3


# Cross-validation and scores


def test_a_strong_mechanism_is_found_and_its_scores_are_scikit_learns(result, evaluation):
    table = result.predictions["compound"]
    expected = average_precision_score(table["Label"] == TARGET, table[f"P_{TARGET}"])
    model = evaluation.table.loc["Unseen compounds"]
    assert model["average_precision"] == pytest.approx(expected)
    assert expected > 0.9
    assert model["p"] < 0.05
    assert model["low"] <= expected <= model["high"]
    assert model["prevalence"] == pytest.approx((table["Label"] == TARGET).mean())
    assert {"A random list, on average", "Trained on shuffled labels", "Plate only",
            "Cell count only"} <= set(evaluation.table.index)
    assert "permutation p = 0.01" in repr(evaluation)


def with_structures(screen):
    """Hits of TARGET are amines, all others esters, on seven rings."""
    rings = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "c1ccsc1", "C1CCCC1", "c1ccoc1", "C1CCOCC1"]
    names = screen.annotations["Metadata_Compound"]
    hit = screen.annotations["Metadata_MoA"] == TARGET
    smiles = [f"{'CN(C)C' if own else 'COC(=O)'}{rings[i % 7]}"
              for i, own in enumerate(hit)]
    return replace(screen, annotations=screen.annotations.assign(
        Metadata_SMILES=np.where(names == "C03", "no molecule", smiles)))


def test_structure_stands_beside_the_features_where_the_screen_knows_it(screen, result,
                                                                        monkeypatch):
    from moascope.learning import simple

    monkeypatch.setattr(simple, "TREES", 20)
    quick = {"bootstraps": 50, "permutations": 99, "refits": 0}
    with pytest.warns(UserWarning, match="C03"):
        found = moascope.evaluate(result, with_structures(screen), **quick)
    names = ["Structure only, fingerprint", "Structure only, six properties",
             "features and structure"]
    rows = found.table.loc[names]
    assert rows["kind"].tolist() == ["baseline", "baseline", "both"]
    assert (rows["average_precision"] > 0.9).all()
    assert "structure alone 1.000 (fingerprint" in found.chemistry
    assert {"both_minus_structure", "model"} <= set(found.metrics["baselines"]["chemistry"])
    without = moascope.evaluate(result, screen, **quick)
    assert "no column Metadata_SMILES or Metadata_InChI" in without.chemistry
    assert not set(names) & set(without.table.index)


def test_folds_by_scaffold_keep_a_series_together(screen, features):
    with pytest.warns(UserWarning) as said:
        folds = moascope.make_folds(with_structures(screen), features, "gpcr", folds=3, repeats=1,
                                    holdout=0, group="scaffold")
    assert any("20 compounds form 8 scaffolds" in str(one.message) for one in said)
    families = folds.groups.groupby("Metadata_Family")["Fold_0"]
    assert len(families) == 8
    assert families.min().equals(families.max())
    with pytest.raises(moascope.MoascopeError, match="Metadata_SMILES"):
        moascope.make_folds(screen, features, group="cluster")


@pytest.mark.parametrize(("level", "rows"), [("site", 48), ("well", 48), ("compound", 16)])
def test_predictions_have_one_row_per_unit_of_the_folds(result, level, rows):
    table = result.predictions[level]
    assert len(table) == rows
    np.testing.assert_allclose(table[[f"P_{name}" for name in result.question.classes]].sum(axis=1),
                               1, atol=1e-6)


def test_hyperparameters_come_as_keywords_or_as_a_dict(features, folds, result):
    keywords = moascope.cross_validate(features, folds, **QUICK)
    pd.testing.assert_frame_equal(keywords.predictions["compound"], result.predictions["compound"])
    both = moascope.cross_validate(features, folds, QUICK, epochs=1)
    assert (both.head.epochs, both.head.learning_rate) == (1, 0.02)
    assert "epochs=1" in repr(both)


def test_the_choice_of_a_study_is_used_and_keywords_precede_it(features, folds, result, tmp_path):
    chosen = {"final": QUICK, "folds": {f"{r}/{f}": QUICK for r in range(2) for f in range(3)}}
    (tmp_path / "tuned.yaml").write_text(json.dumps(chosen))
    found = moascope.cross_validate(features, folds, tuned=str(tmp_path / "tuned.yaml"))
    pd.testing.assert_frame_equal(found.predictions["site"], result.predictions["site"])
    less = moascope.cross_validate(features, folds, tuned=tmp_path / "tuned.yaml", epochs=1)
    assert less.head.epochs == 1


def test_the_choice_of_a_study_on_other_folds_is_an_error(features, folds, tmp_path):
    (tmp_path / "tuned.yaml").write_text(json.dumps({"final": {}, "folds": {"0/0": {}, "0/1": {}}}))
    with pytest.raises(moascope.MoascopeError, match="2 folds in all repeats, and there are 6"):
        moascope.cross_validate(features, folds, tuned=tmp_path / "tuned.yaml")
    with pytest.raises(moascope.MoascopeError, match="There is no file"):
        moascope.cross_validate(features, folds, tuned=tmp_path / "other.yaml")


def test_compounds_without_features_are_reported_and_not_predicted(features, folds):
    lost = folds.groups.loc[~folds.groups["Holdout"], "Metadata_Compound"].iloc[0]
    with pytest.warns(UserWarning, match=rf"1 compound of the folds .* {lost}\."):
        found = moascope.cross_validate(features[features["Metadata_Compound"] != lost], folds,
                                        QUICK)
    assert lost not in set(found.predictions["compound"]["Metadata_Compound"])
    assert len(found.predictions["compound"]) == 15
    with pytest.raises(moascope.MoascopeError, match="Make the folds from the same screen"):
        moascope.cross_validate(features.assign(Metadata_QC_Pass=False), folds)


@pytest.mark.parametrize(("settings", "said"), [
    ({"dropuot": 0.1}, "'train.dropuot' is not a parameter. Did you mean 'train.dropout'"),
    ({"dropout": 2}, r"train\.dropout = 2 cannot be used"),
    ({"backbone": "resnet50"}, "backbone 'resnet50'"),
])
def test_a_wrong_hyperparameter_is_one_sentence(features, folds, settings, said):
    with pytest.raises(moascope.MoascopeError, match=said):
        moascope.cross_validate(features, folds, **settings)


def test_edited_folds_that_leak_are_an_error(features, folds):
    groups = folds.groups.copy()
    twin = groups[~groups["Holdout"]].iloc[[0]].assign(Metadata_Group="twin")
    twin["Fold_0"] = (twin["Fold_0"] + 1) % 3
    wells = folds.wells.copy()
    own = wells.index[wells["Metadata_Group"] == groups.loc[twin.index[0], "Metadata_Group"]]
    wells.loc[own[0], "Metadata_Group"] = "twin"
    edited = moascope.Folds(pd.concat([groups, twin], ignore_index=True), wells, folds.question, [])
    with pytest.raises(moascope.LeakError, match="is in several folds"):
        moascope.cross_validate(features, edited, QUICK)


def test_profiles_of_wells_from_elsewhere_are_features_too(screen, features, folds, result):
    """As pycytominer aggregates them: one row per well, other metadata beside."""
    values = [name for name in features if not name.startswith("Metadata_")]
    profiles = features.groupby(["Metadata_Plate", "Metadata_Well"], as_index=False)[values].mean()
    profiles["Metadata_broad_sample"] = "BRD"
    own = moascope.add_metadata(profiles, screen)
    assert "Metadata_broad_sample" not in own
    found = moascope.cross_validate(own, folds, QUICK)
    pd.testing.assert_frame_equal(found.predictions["compound"], result.predictions["compound"],
                                  rtol=1e-4)


def test_wells_are_found_in_any_spelling_and_strange_ones_are_reported(screen, features):
    spelt = features.assign(Metadata_Well=features["Metadata_Well"].str.replace("0", ""))
    pd.testing.assert_frame_equal(moascope.add_metadata(spelt, screen), features)
    strange = features.assign(Metadata_Well=features["Metadata_Well"].replace("B02", "H12"))
    with pytest.warns(UserWarning, match="3 wells of the profiles are not in .* Plate1 H12"):
        table = moascope.add_metadata(strange, screen)
    assert set(table.loc[table["Metadata_Well"] == "H12", "Metadata_Compound"]) == {""}


def test_pycytominer_normalises_the_features_and_a_head_learns_from_them(screen, features, folds):
    values = [name for name in features if not name.startswith("Metadata_")]
    meta = [name for name in features if name.startswith("Metadata_")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pycytominer

        profiles = pycytominer.normalize(features, features=values, meta_features=meta,
                                         samples="Metadata_Control == 'negative'",
                                         method="mad_robustize")
        profiles = pycytominer.feature_select(profiles, features=values, operation=[
            "variance_threshold", "correlation_threshold", "drop_na_columns"])
    assert len(profiles.columns) < len(features.columns)
    found = moascope.cross_validate(profiles, folds, QUICK, normalisation="none")
    table = found.predictions["compound"]
    assert average_precision_score(table["Label"] == TARGET, table[f"P_{TARGET}"]) > 0.8


def test_copairs_takes_the_features_as_they_are(features):
    from copairs import map as copairs_map

    own = features[features["Metadata_Control"] != "negative"].reset_index(drop=True)
    meta = own.filter(regex="^Metadata_")
    found = copairs_map.average_precision(
        meta, own.drop(columns=meta.columns).fillna(0).to_numpy(), pos_sameby=["Metadata_MoA"],
        pos_diffby=["Metadata_Compound"], neg_sameby=[], neg_diffby=["Metadata_MoA"])
    assert len(found) == len(own)
    assert found["average_precision"].mean() > 0.5


def test_every_mechanism_can_be_predicted_at_once(screen, features):
    folds = moascope.make_folds(screen, features, "moa", folds=3, repeats=1)
    found = moascope.evaluate(moascope.cross_validate(features, folds, QUICK), bootstraps=20,
                              permutations=20, refits=0, leak=True)
    assert set(found.metrics["out_of_fold"]["compound"]["per_class"]) == {
        TARGET, "histamine receptor antagonist"}
    assert "invalid" in set(found.table["kind"])
    assert "Trained on shuffled labels" not in found.table.index


def test_a_result_survives_a_notebooks_restart(result):
    """Kernels are restarted, and people keep results in files."""
    kept = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(kept.predictions["well"], result.predictions["well"])


def test_what_the_heads_look_at_is_a_table(result):
    table = moascope.explain(result, bootstraps=20)
    assert list(table.columns) == ["features", "average_precision", "lost", "low", "high"]
    kinds = set(table.index.get_level_values("kind"))
    # One channel and its cell count; morphology has names.
    assert kinds == {"channel", "measurement"}
    assert "Texture" in table.loc["measurement"].index
    whole = table.attrs["average_precision"]
    np.testing.assert_allclose(table["average_precision"] + table["lost"], whole)


def test_features_that_cannot_be_told_apart_are_not_explained(features, folds):
    kept = [name for name in features if name.startswith(("Metadata_", "QC_", "Morphology_"))]
    result = moascope.cross_validate(features[kept], folds, QUICK)
    plain = replace(result.examples, _cache={}, names=tuple(
        f"own_{i}" for i in range(len(result.examples.names))))
    with pytest.raises(moascope.MoascopeError, match="of several channels"):
        moascope.explain(replace(result, examples=plain))


# Figures


def test_figures_are_axes_of_a_figure_that_pyplot_shows(evaluation, features, plt):
    for number, draw in enumerate((moascope.plot_precision_recall, moascope.plot_comparison), 1):
        axes = draw(evaluation)
        assert plt.fignum_exists(number)
        assert axes.get_figure() is plt.figure(number)
    assert plt.rcParams["axes.spines.top"]


def test_the_curve_is_that_of_the_predictions(evaluation, plt):
    axes = moascope.plot_precision_recall(evaluation)
    texts = [text.get_text() for text in axes.get_figure().legends[0].get_texts()]
    value = evaluation.table.loc["Unseen compounds", "average_precision"]
    assert f"Model, average precision {value:.3f}" in texts


def test_figures_go_on_axes_that_are_given(evaluation, features, result, plt):
    figure, axes = plt.subplots(2, 2)
    drawn = [moascope.plot_precision_recall(evaluation, axes[0, 0]),
             moascope.plot_comparison(evaluation, axes[0, 1]),
             moascope.plot_reliability(evaluation, axes[1, 0]),
             moascope.plot_plate(features, "Count_Nuclei", ax=axes[1, 1])]
    assert drawn == list(axes.flat)
    assert plt.get_fignums() == [figure.number]
    assert axes[0, 0].get_legend() is not None
    labels = [tick.get_text() for tick in axes[0, 1].get_yticklabels()]
    assert labels == list(evaluation.table.index)


def test_a_plate_shows_numbers_where_the_wells_are(features, screen, result, plt):
    axes = moascope.plot_plate(features, "Count_Nuclei", "Plate2")
    own = features[features["Metadata_Plate"] == "Plate2"].set_index("Metadata_Well")
    grid = axes.images[0].get_array()
    assert grid.shape == (8, 12)
    assert grid[1, 1] == own.loc["B02", "Count_Nuclei"]
    kinds = moascope.plot_plate(screen.layout, "Metadata_Control")
    assert "Plate1" in kinds.get_title(loc="left")
    moascope.plot_plate(result.predictions["well"], f"P_{TARGET}")
    for table, column, plate, said in (
            (features, "Count", None, "no column Count"),
            (features, "Count_Nuclei", "Plate9", "no plate Plate9; it has Plate1"),
            (features, "Metadata_Compound", None, "21 different values")):
        with pytest.raises(moascope.MoascopeError, match=said):
            moascope.plot_plate(table, column, plate)


def test_too_few_compounds_have_no_reliability_curve(evaluation):
    few = {"compound": evaluation.result.predictions["compound"].head(12)}
    with pytest.raises(moascope.MoascopeError, match="at least 16 compounds"):
        moascope.plot_reliability(replace(evaluation, result=replace(evaluation.result,
                                                                     predictions=few)))


def test_too_few_compounds_for_the_folds_are_said_in_the_words_of_the_screen(features, folds):
    groups = folds.groups.iloc[:12].reset_index(drop=True)
    few = replace(folds, groups=groups, wells=folds.wells[
        folds.wells["Metadata_Group"].isin(groups["Metadata_Group"])])
    with pytest.raises(moascope.MoascopeError, match="compounds of a single class are left"):
        moascope.cross_validate(features, few, QUICK)
