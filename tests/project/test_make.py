"""`moascope init`: a project in an empty folder; nothing of a person's is overwritten."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moascope.errors import MoascopeError
from moascope.project import make, upgrade
from moascope.project.make import make_project, next_steps
from moascope.project.shipped import PARAMS, STAGES, shipped

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def person(tmp_path, monkeypatch):
    """Somebody that git knows, whose configuration is their own."""
    (tmp_path / "gitconfig").write_text("[user]\n  name = Anna\n  email = anna@lab\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            monkeypatch.delenv(f"GIT_{who}_{name}", raising=False)


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True,
                          text=True).stdout


def test_a_project_is_a_clean_git_and_dvc_repository_with_the_clones_own_stages(tmp_path):
    folder = tmp_path / "my_screen"
    made = make_project(folder)
    assert made.committed and not made.notes
    for name in (STAGES, PARAMS, "screen/README.md"):
        assert (folder / name).read_text() == (ROOT / name).read_text() == shipped(name)
    assert git(folder, "status", "--porcelain") == ""
    assert len(git(folder, "log", "--oneline").splitlines()) == 1
    assert (folder / "README.md").read_text().startswith("# my_screen\n")
    assert "{name}" not in (folder / "README.md").read_text()
    listed = subprocess.run([sys.executable, "-m", "dvc", "remote", "list"], cwd=folder,
                            capture_output=True, text=True, check=True,
                            env=os.environ | {"COLUMNS": "500"}).stdout
    assert listed.split()[:2] == ["local", str(folder / ".dvc/storage")]


def test_files_of_a_person_stay_and_are_named(tmp_path):
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "README.md").write_text("mine\n")
    (folder / ".gitignore").write_text("*.tif\n/mlruns/")
    (folder / "notes.txt").write_text("mine\n")
    made = make_project(folder)
    assert (folder / "README.md").read_text() == "mine\n"
    ignored = (folder / ".gitignore").read_text().splitlines()
    assert ignored[:2] == ["*.tif", "/mlruns/"] and ignored.count("/mlruns/") == 1
    assert "/mlflow.db*" in ignored
    said = " ".join(made.notes)
    assert "README.md was there already" in said and ".gitignore was there already" in said
    assert git(folder, "status", "--porcelain") == "?? README.md\n?? notes.txt\n"


@pytest.mark.parametrize("name", [STAGES, PARAMS])
def test_a_pipeline_of_a_persons_own_is_never_overwritten(tmp_path, name):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / name).write_text("stages: {}\n")
    with pytest.raises(MoascopeError, match=f"lab already holds {name}, which would be overwr"):
        make_project(tmp_path / "lab")
    assert [path.name for path in (tmp_path / "lab").iterdir()] == [name]


def test_a_project_is_made_once_and_the_sentence_names_the_command(tmp_path, monkeypatch):
    make_project(tmp_path / "my_screen")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MoascopeError, match=r"`moascope init --upgrade my_screen` brings"):
        make_project(Path("my_screen"))
    monkeypatch.chdir(tmp_path / "my_screen")
    with pytest.raises(MoascopeError, match=r"^my_screen is .* `moascope init --upgrade` brings"):
        make_project(Path())


def test_the_clone_is_a_project_already():
    with pytest.raises(MoascopeError, match="holds moascope's own source"):
        make_project(ROOT)


def test_an_interrupted_init_is_completed_by_a_second_one(tmp_path, monkeypatch):
    def interrupt(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(make, "write_origin", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make_project(tmp_path / "p")
    assert not (tmp_path / "p" / STAGES).exists()
    make_project(tmp_path / "p")
    assert (tmp_path / "p" / STAGES).read_text() == shipped(STAGES)


def test_in_another_repository_a_project_has_one_of_its_own(tmp_path):
    git(tmp_path, "init", "-q")
    made = make_project(tmp_path / "inner")
    assert "lies in the git repository" in made.notes[0]
    assert (tmp_path / "inner/.git").is_dir() and made.committed


def test_in_a_repository_of_a_persons_own_nothing_is_committed(tmp_path):
    (tmp_path / "lab").mkdir()
    git(tmp_path / "lab", "init", "-q")
    made = make_project(tmp_path / "lab")
    assert not made.committed and "nothing is committed" in made.notes[-1]


def test_without_a_name_in_git_the_project_is_made_and_the_remedy_is_shown(tmp_path):
    (tmp_path / "gitconfig").write_text("[user]\n  useConfigOnly = true\n")
    made = make_project(tmp_path / "p")
    assert not made.committed and "git config --global user.name" in made.notes[-1]
    assert (tmp_path / "p" / STAGES).exists()


def test_without_git_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MoascopeError, match="git is not installed"):
        make_project(tmp_path / "p")


def test_the_next_commands_run_where_the_person_stands(tmp_path, monkeypatch):
    made = make_project(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert next_steps(make.Made(Path("p"))) == [
        "cd p", "dvc repro register report", "moascope promote --exit-zero", "moascope summary"]
    monkeypatch.chdir(made.folder)
    assert next_steps(make.Made(Path("my screen")))[0] == "cd 'my screen'"
    assert next_steps(make.Made(Path()))[0] == "dvc repro register report"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert next_steps(make.Made(Path()))[0] == f"source {Path(sys.prefix) / 'bin/activate'}"


@pytest.fixture
def newer(monkeypatch):
    """Installs the package as it might be a release later."""
    texts = {
        STAGES: shipped(STAGES).replace("stages:\n", "stages:\n  first:\n    cmd: echo 1\n", 1),
        PARAMS: shipped(PARAMS).replace("seed: 0\n", "seed: 0\nlater: 1    # a new one\n", 1)
        .replace("trials: 12", "trials: 24"),
    }

    def install():
        for module in (make, upgrade):
            monkeypatch.setattr(module, "shipped", lambda name: texts[name])
            monkeypatch.setattr(module, "package_version", lambda: "9.0")
        # The real parameters know no `later`.
        monkeypatch.setattr(upgrade, "parse_params", lambda content, origin: content)

    return install


def test_an_upgrade_brings_new_stages_and_parameters_and_says_so(tmp_path, newer):
    folder = tmp_path / "p"
    make_project(folder)
    params = (folder / PARAMS).read_text()
    (folder / PARAMS).write_text(params.replace("folds: 5", "folds: 7   # few compounds"))
    newer()
    said = upgrade.upgrade_project(folder)
    assert said[:2] == ["params.yaml: later is new: 1",
                        "params.yaml: tune.trials takes the new default: 24 (it was 12)"]
    assert "dvc.yaml: new: first" in said
    assert said[-1].startswith("made from moascope ") and said[-1].endswith("now 9.0")
    text = (folder / PARAMS).read_text()
    assert "folds: 7   # few compounds" in text and "later: 1    # a new one" in text
    assert "  first:\n" in (folder / STAGES).read_text()
    assert upgrade.upgrade_project(folder) == []


def test_an_upgrade_renews_the_page_of_plots_and_says_so(tmp_path):
    folder = tmp_path / "p"
    make_project(folder)
    (folder / ".dvc/plots.html").write_text("old")
    assert upgrade.upgrade_project(folder) == [
        ".dvc/plots.html: the page of `dvc plots show` is renewed"]
    assert upgrade.upgrade_project(folder) == []


def test_a_dvc_repository_of_a_persons_own_keeps_its_settings(tmp_path):
    folder = tmp_path / "lab"
    make_project(folder)
    for name in (STAGES, ".moascope/version"):
        (folder / name).unlink()
    (folder / ".dvc/config").write_text("[core]\n    remote = mine\n")
    made = make_project(folder)
    assert (folder / ".dvc/config").read_text() == "[core]\n    remote = mine\n"
    assert ".dvc was there already and stays as it is." in made.notes


def test_an_upgrade_keeps_a_persons_own_stage(tmp_path, newer):
    folder = tmp_path / "p"
    make_project(folder)
    with (folder / STAGES).open("a") as file:
        file.write("\n  mine:\n    cmd: echo mine\n")
    newer()
    upgrade.upgrade_project(folder)
    stages = (folder / STAGES).read_text()
    assert "  first:\n" in stages and stages.endswith("\n  mine:\n    cmd: echo mine\n")
    assert "<<<<" not in stages


def test_where_both_changed_a_line_the_persons_stays_and_the_other_is_next_to_it(tmp_path, newer):
    folder = tmp_path / "p"
    make_project(folder)
    own = (folder / STAGES).read_text().replace("stages:\n", "stages:   # mine\n", 1)
    (folder / STAGES).write_text(own)
    newer()
    said = upgrade.upgrade_project(folder)
    assert any("touch the same lines" in sentence for sentence in said)
    assert (folder / STAGES).read_text() == own
    assert "  first:\n" in (folder / "dvc.yaml.new").read_text()
    assert upgrade.upgrade_project(folder) == []


def test_parameters_that_the_new_package_refuses_stop_the_upgrade_before_anything_is_written(
        tmp_path):
    folder = tmp_path / "p"
    make_project(folder)
    text = (folder / PARAMS).read_text().replace("folds: 5", "folds: 1")
    (folder / PARAMS).write_text(text)
    (folder / ".moascope/version").write_text("0.0\n")
    with pytest.raises(MoascopeError, match=r"split\.folds = 1"):
        upgrade.upgrade_project(folder)
    assert (folder / ".moascope/version").read_text() == "0.0\n"
    assert (folder / PARAMS).read_text() == text


def test_an_upgrade_of_no_project_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(MoascopeError, match=r"has no dvc\.yaml, params\.yaml\. `moascope init "):
        upgrade.upgrade_project(tmp_path)
    with pytest.raises(MoascopeError, match="holds moascope's own source"):
        upgrade.upgrade_project(ROOT)
