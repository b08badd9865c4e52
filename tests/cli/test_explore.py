"""The command that opens the explorer."""

import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from moascope import cli


def test_before_embed_a_sentence_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    monkeypatch.setattr(sys, "argv", ["moascope", "explore", "--no-browser", "--map", "pca"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "Run `dvc repro embed`" in " ".join(capsys.readouterr().err.split())


def test_the_browser_gets_the_address_that_is_printed(tmp_path, monkeypatch, capsys):
    """The page itself is tested beside it; here it is opened and ended at once."""
    from moascope.exploring import content, index, said

    opened = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    compounds = pd.DataFrame({"Metadata_Compound": ["C 1", "DMSO"], "Control": ["", "negative"]})
    monkeypatch.setattr(index, "open_index", lambda *_: SimpleNamespace(compounds=compounds))
    monkeypatch.setattr(said, "read_said", lambda *_: None)
    monkeypatch.setattr(content, "Explorer", lambda *_: None)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("moascope.exploring.serve.explorer_application", lambda *_: None)
    monkeypatch.setattr("moascope.exploring.serve.serve_until_stopped",
                        lambda app, site, greeting: (print(greeting), site.listener.close()))
    for arguments in (["--no-browser"], [], ["--compound", "c 1"]):
        monkeypatch.setattr(sys, "argv", ["moascope", "explore", "--map", "pca", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    said = capsys.readouterr().out
    assert len(opened) == 2 and all(f"Explore: {address}\n" in said for address in opened)
    assert "/?key=" in opened[0] and "/compound?name=C+1&key=" in opened[1]
    monkeypatch.setattr(sys, "argv", ["moascope", "explore", "--map", "pca", "--compound", "c 12"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "Do you mean C 1?" in " ".join(capsys.readouterr().err.split())
