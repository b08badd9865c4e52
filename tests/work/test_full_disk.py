"""A full disk ends in one sentence, and what was partly written is removed."""

import errno
import importlib
import os
import py_compile
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import typer

from moascope.errors import MoascopeError, full_disk, run_to_exit_code
from moascope.learning.storage import open_study
from moascope.stages.run import remove_unfinished
from moascope.work.files import write_atomically, write_json
from moascope.work.plates import KEY_FILE

FULL = Path("/dev/full")   # every write to it fails as on a full disk
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def said_by(program, capsys):
    assert run_to_exit_code(program) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and "Traceback" not in said
    assert said.endswith(". Make room and run the same command again; what was finished is kept.\n")
    return said


def test_a_full_disk_is_a_sentence_and_leaves_nothing_partial(tmp_path, monkeypatch, capsys):
    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = said_by(lambda: write_json(tmp_path / "metrics.json", {}), capsys)
    assert said.startswith("error: The disk is full while writing") and "metrics.json" in said
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_written_part_by_part_leaves_nothing_partial_either(tmp_path, capsys):
    def parts():
        yield b"one,two\n"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    said = said_by(lambda: write_atomically(tmp_path / "table.csv", parts()), capsys)
    assert said.startswith("error: The disk is full while writing") and "table.csv" in said
    assert list(tmp_path.iterdir()) == []


def _sqlite():
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE runs (name TEXT)")
    connection.execute("INSERT INTO runs VALUES (?)", ("x" * 100_000,))


def _wrapped():
    try:
        _sqlite()
    except sqlite3.Error as error:
        raise MoascopeError(f"The tracking store sqlite:///mlflow.db cannot be used: {error}"
                            ) from None


def _numpy():
    with FULL.open("wb", buffering=0) as file:
        np.zeros(100_000).tofile(file)


def _parquet():
    import pandas as pd

    pd.DataFrame({"x": np.arange(100_000)}).to_parquet(FULL)


@needs_full
@pytest.mark.parametrize(("program", "where"), [
    (_sqlite, "MLflow's database"), (_wrapped, "MLflow's database"), (_numpy, ""), (_parquet, ""),
    (lambda: FULL.write_bytes(b"x"), ""),
])
def test_a_disk_is_full_in_the_words_of_every_library(program, where, capsys):
    said = said_by(program, capsys)
    assert said.startswith("error: The disk is full") and where in said


def test_a_study_whose_journal_cannot_grow_names_it(tmp_path, monkeypatch, capsys):
    study = open_study(str(tmp_path / "study.journal"), "s")

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    said = said_by(study.ask, capsys)
    assert f"The disk is full while writing {tmp_path / 'study.journal'}." in said


def test_of_a_copy_the_place_is_named_where_it_goes():
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "from", None, "to")
    assert full_disk(error).filename == "to"


def test_an_error_of_another_kind_is_no_full_disk():
    assert full_disk(OSError(errno.EACCES, os.strerror(errno.EACCES), "x")) is None
    assert full_disk(MoascopeError("The plate is full of cells.")) is None


def test_of_a_stage_finished_plates_and_trials_stay_and_all_else_goes(tmp_path):
    out, report = tmp_path / "prepare", tmp_path / "reports"
    for name in ("P1/crops.npy", f"P1/{KEY_FILE}", "P2/crops.npy", "study.journal", "table.csv"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("x")
    report.mkdir()
    for name in ("quality.json", "old.json", "another.json"):
        (report / name).write_text("x")
    os.utime(report / "old.json", (1000, 1000))
    (tmp_path / ".prepare.partial" / "images").mkdir(parents=True)
    remove_unfinished([out, report / "quality.json", report / "old.json"], begun=2000)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"prepare/P1/crops.npy", f"prepare/P1/{KEY_FILE}", "prepare/study.journal",
                    "reports/old.json", "reports/another.json"}
    assert not (tmp_path / ".prepare.partial").exists()


def test_a_compiled_module_that_was_cut_short_is_removed_and_imported_anew(tmp_path, monkeypatch,
                                                                           capsys):
    """As a full disk leaves it; a command line takes it for the end of what a person types."""
    source = tmp_path / "cut_short_by_a_full_disk.py"
    source.write_text("WORDS = ['a module', 'of ours']\n")
    compiled = Path(py_compile.compile(str(source)))
    compiled.write_bytes(compiled.read_bytes()[:-20])
    monkeypatch.syspath_prepend(tmp_path)
    app = typer.Typer()

    @app.command()
    def command() -> None:
        print(importlib.import_module(source.stem).WORDS)

    assert run_to_exit_code(lambda: app([])) == 1
    said = capsys.readouterr().err
    assert str(compiled) in said and "It is removed: run the same command again." in said
    assert not compiled.exists()
    with pytest.raises(SystemExit) as ended:
        run_to_exit_code(lambda: app([]))
    assert ended.value.code == 0
    assert "of ours" in capsys.readouterr().out
