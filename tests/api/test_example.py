"""The example in the documentation is the script that the tests run, with what it printed."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker():
    return runpy.run_path(str(DOCS / "make_example.py"))


def test_a_cell_shows_what_it_prints_and_its_last_value(maker):
    names = {}
    assert maker["run_cell"]("x = 1\nprint('one')\nx + 1", names) == "one\n2"
    assert maker["run_cell"]("y = x", names) == ""
    assert names["y"] == 1


def test_a_script_becomes_a_page_with_its_pictures(maker, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nfrom matplotlib import "
                      "pyplot as plt\n\nplt.plot([1, 2])\nx = 3\n\n# %%\nx\n")
    maker["run"](script, tmp_path)
    page = (tmp_path / "example.md").read_text()
    assert page.splitlines()[2:5] == ["# Title", "", "Words."]
    assert "![x = 3](example_1.png)\n\n```python\nx\n```\n\n```\n3\n```" in page
    assert (tmp_path / "example_1.png").stat().st_size > 1000


def test_the_page_shows_the_script_as_it_is(maker):
    page = (DOCS / "example.md").read_text()
    assert page.startswith(maker["NOTE"])
    for kind, text in maker["cells"]((DOCS / "example.py").read_text()):
        assert (f"```python\n{text}\n```" if kind == "code" else text) in page
