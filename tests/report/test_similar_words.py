"""What the terminal says of compounds that look alike."""

import numpy as np
import pandas as pd
import pytest

from moascope.evaluation.similar import Similar
from moascope.report.similar import conclusion, show_similar


def found(corrected, *, active="yes", dose=None, plates=("shared", "other", "shared")):
    table = pd.DataFrame({
        "Metadata_Compound": ["A", "B", "C"], "Metadata_MoA": ["x|y", "x", ""],
        "active": ["yes", "no", ""], "similarity": [0.9, 0.5, -0.2], "wells": 4,
        "plates": list(plates), "p_value": corrected, "corrected_p_value": corrected,
        "share_of_others": [0.004, 0.5, np.nan]})
    if dose is not None:
        table.insert(1, "Metadata_Concentration_uM", [1.0, 0.5, 2.0])
    return Similar("Q", dose, active, table, ("A warning.",))


@pytest.mark.parametrize(("corrected", "active", "words"), [
    ([0.001, 0.01, 0.02], "yes",
     "3 compounds are more like Q than DMSO wells are (corrected p < 0.05): A, B, C; mechanisms "
     "among them: x (2), y (1); 1 of unknown mechanism."),
    ([0.01, 0.9, 1], "no", "1 compound is more like Q than DMSO wells are (corrected p < 0.05): A; "
     "mechanisms among them: x (1), y (1)."),
    ([0.2, 0.9, 1], "no", "Nothing is more like Q than DMSO wells are (corrected p < 0.05): the "
     "order above may be chance. Q itself looks like its controls (it is not active)."),
    ([np.nan] * 3, "", "It cannot be told whether anything is more like Q than controls are."),
])
def test_the_conclusion_follows_the_corrected_p(corrected, active, words):
    assert conclusion(found(corrected, active=active)).startswith(words)


def test_a_mark_is_explained_where_only_some_neighbours_share_the_plates(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    show_similar(found([0.001, 0.5, 1], dose=3.0), 10)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Nearest to Q at 3 µM, 3 of 3 doses" in out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines()
            if line.startswith("│")]
    assert rows == [["A*", "1", "0.90", "0.001", "0.001", "<1 %", "yes", "x, y"],
                    ["B", "0.5", "0.50", "0.500", "0.500", "50 %", "no", "x"],
                    ["C*", "2", "−0.20", "1.000", "1.000", "–", "–", "–"]]
    assert "*: all its wells are on plates of the compound." in " ".join(out.split())
    show_similar(found([0.001, 0.5, 1], plates=["shared"] * 3), 1)
    out = capsys.readouterr().out
    assert "*" not in out and "A warning." in out
