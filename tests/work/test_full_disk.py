"""A full disk ends in one sentence, and what was partly written is removed."""

import errno
import os
from pathlib import Path

from moascope.errors import run_to_exit_code
from moascope.work.files import write_json


def test_a_full_disk_is_a_sentence_and_leaves_nothing_partial(tmp_path, monkeypatch, capsys):
    def full(path, data):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run_to_exit_code(lambda: write_json(tmp_path / "metrics.json", {})) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: The disk is full while writing") and "metrics.json" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
