"""What the tests of commands share."""

import sys

import pytest

from moascope import cli


@pytest.fixture
def say(monkeypatch, capsys):
    """`moascope ...` in this process: exit status, standard output and error, at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["moascope", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run
