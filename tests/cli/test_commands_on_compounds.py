"""Commands about one compound, in a project in which `embed` has run."""


import pandas as pd
import pytest
from profiled import HISTAMINE, TUBULIN, make_profiles

import moascope
from moascope.work.files import write_csv


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of profiles: its screen, and features as `embed` writes them."""
    folder = tmp_path_factory.mktemp("project")
    screen = make_profiles(folder / "data/acquire", plates=4, compounds=12, controls=12, effect=2)
    profiles = pd.read_parquet(screen / "profiles.parquet")
    for plate, own in profiles.groupby("Metadata_Plate"):
        target = folder / "data/embed/profiles" / plate / "features.parquet"
        target.parent.mkdir(parents=True)
        names = [name for name in own if not name.startswith("Metadata_")]
        own = own.rename(columns={name: f"Profiles_{name}" for name in names})
        own.insert(2, "Metadata_Site", 1)
        own.insert(3, "Metadata_Batch", "")
        own.insert(4, "Metadata_Panel", "")
        own.insert(5, "QC_Pass", True)
        own.to_parquet(target, index=False)
    (folder / "params.yaml").write_text("seed: 0\n")
    return folder


@pytest.fixture(autouse=True)
def in_the_project(project, monkeypatch):
    monkeypatch.chdir(project)


def test_similar_shows_its_numbers_at_80_columns_and_says_what_they_mean(say, tmp_path):
    status, out, error = say("similar", "c01", "--top", 3, "--csv", tmp_path / "similar.csv")
    assert (status, error) == (0, "")
    # The last line names a file.
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "Nearest to C01, 3 of 11 other compounds" in out
    rows = [line for line in out.splitlines() if line.startswith("│ C")]
    assert len(rows) == 3
    table = pd.read_csv(tmp_path / "similar.csv")
    assert set(table["Metadata_Compound"][:5]) == {"C03", "C05", "C07", "C09", "C11"}
    assert set(table["Metadata_MoA"][5:]) == {HISTAMINE}
    said = " ".join(out.split())
    alike = int((table["corrected_p_value"] < 0.05).sum())
    assert 1 <= alike <= 5
    assert "are more like C01 than DMSO wells are (corrected p < 0.05)" in said
    assert f"{TUBULIN} ({alike})" in said
    assert "All 11 neighbours have wells only on plates of C01" in said
    assert f"{table['similarity'][0]:.2f}" in rows[0]


def test_similar_of_one_dose(say):
    status, out, _ = say("similar", "C01", "--level", "dose", "--top", 2)
    assert status == 0
    assert "Nearest to C01 at 10 µM, 2 of 11 doses" in out
    assert say("similar", "C01", "--level", "dose", "--dose", 2)[2] == (
        "error: C01 was not measured at 2 µM. It has 10.\n")


@pytest.mark.parametrize(("name", "words"), [
    ("C1", "error: The screen has no compound C1. Do you mean C"),
    ("DMSO", "error: DMSO is the negative control that all compounds are compared with."),
])
def test_a_compound_that_cannot_be_asked_for_is_one_sentence(say, name, words):
    status, out, error = say("similar", name)
    assert (status, out) == (1, "")
    assert error.startswith(words) and error.count("\n") == 1


def test_before_embed_the_way_is_shown(say, tmp_path):
    assert say("similar", "C01", "--data", tmp_path)[2].startswith(
        f"error: {tmp_path / 'acquire'} does not exist. Run `dvc repro embed`")


def test_the_notebook_gives_the_same_table(project, say, tmp_path):
    screen = moascope.read_screen(project / "data/acquire")
    features = moascope.read_features(project / "data/embed", screen)
    with pytest.warns(UserWarning, match="All 11 neighbours have wells only on plates of C02"):
        table = moascope.similar_compounds(features, "C02")
    say("similar", "C02", "--csv", tmp_path / "similar.csv")
    pd.testing.assert_frame_equal(
        table, pd.read_csv(tmp_path / "similar.csv", keep_default_na=False), atol=1e-5)


def test_doses_shows_what_activity_measured_and_writes_a_picture(project, say, tmp_path):
    status, _, error = say("doses", "C01", "--report", tmp_path)
    assert status == 1
    assert error == (f"error: {tmp_path / 'activity'} holds no dose-responses. Run `dvc repro "
                     "activity` at the root of a project.\n")
    screen = moascope.read_screen(project / "data/acquire")
    features = moascope.read_features(project / "data/embed", screen)
    found = moascope.dose_responses(features)
    write_csv(tmp_path / "activity/doses.csv", found.doses, 6)
    write_csv(tmp_path / "activity/curves.csv", found.curves, 6)
    status, out, error = say("doses", "c01", "--report", tmp_path, "--out", tmp_path / "doses.png")
    assert (status, error) == (0, "")
    assert "C01: 1 dose, and a curve needs 3; the distance stands alone." in " ".join(out.split())
    assert (tmp_path / "doses.png").read_bytes().startswith(b"\x89PNG")
    assert "DMSO is the negative control" in say("doses", "DMSO", "--report", tmp_path)[2]


def test_the_notebook_draws_a_dose_response(project):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    screen = moascope.read_screen(project / "data/acquire")
    found = moascope.dose_responses(moascope.read_features(project / "data/embed", screen))
    ax = moascope.plot_doses(found, "C01")
    assert ax.get_title(loc="left") == "C01"
    assert ax.get_xscale() == ax.get_yscale() == "log"
    with pytest.raises(moascope.MoascopeError, match="was not measured in panel X"):
        moascope.plot_doses(found, "C01", panel="X")
    plt.close("all")
