"""Data Docs that open without a network: the pages of Great Expectations load styles and scripts
from seven hosts, and are blank or unstyled where those are not available.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_REMOTE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>",
    re.DOTALL | re.IGNORECASE,
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2, h5 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { border: 1px solid #ccc; padding: .3rem .7rem; text-align: left; vertical-align: top; }
th { background: #f3f3f3; }
.fa-check-circle::before, .kept::before { content: "\\2713"; color: #18794e; font-style: normal; }
.fa-times::before, .broken::before { content: "\\2717"; color: #c62a2f; font-style: normal; }
.fa-exclamation-triangle::before, .odd::before { content: "!"; color: #ad5700; font-weight: bold; }
.cooltip .top, .navbar-brand, .dropdown-menu, .card:has(.btn-group) { display: none; }
"""


def make_self_contained(data_docs: Path, outcomes: Sequence[Mapping[str, Any]]) -> None:
    """Remove what pages load from elsewhere, and write our own index.

    Parameters
    ----------
    data_docs : Path
        The site that Great Expectations built.
    outcomes : sequence of mapping
        As `moascope.validation.expectations.check_expectations` gives them.
    """
    shutil.rmtree(data_docs / "static", ignore_errors=True)  # Fonts and pictures of theirs.
    for page in data_docs.rglob("*.html"):
        text = _REMOTE.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"<style>{_STYLE}</style></head>", 1),
                        encoding="utf-8")
    (data_docs / "index.html").write_text(_index(data_docs, outcomes), encoding="utf-8")


def _index(data_docs: Path, outcomes: Sequence[Mapping[str, Any]]) -> str:
    parts = ["<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
             f"<title>moascope: validate</title><style>{_STYLE}</style></head><body>"
             "<h1>What validate expected and what it found</h1>"
             "<p><i class='kept'></i> holds &nbsp; <i class='odd'></i> warning &nbsp; "
             "<i class='broken'></i> critical: the run stops</p>"]
    for table in dict.fromkeys(outcome["table"] for outcome in outcomes):
        pages = sorted((data_docs / "validations" / table).rglob("*.html"))
        link = (f" <small><a href='{html.escape(pages[-1].relative_to(data_docs).as_posix())}'>"
                "details</a></small>" if pages else "")
        parts.append(f"<h2>{html.escape(table)}{link}</h2><table>"
                     "<tr><th></th><th>Expectation</th><th>Rows</th><th>Where</th></tr>")
        parts += [_row(outcome) for outcome in outcomes if outcome["table"] == table]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>\n"])


def _row(outcome: Mapping[str, Any]) -> str:
    mark = ("kept" if outcome["success"]
            else "broken" if outcome["severity"] == "critical" else "odd")
    where = "<br>".join(html.escape(example) for example in outcome["examples"])
    rows = f"{outcome['unexpected']:,}" if outcome["unexpected"] else ""
    return (f"<tr><td><i class='{mark}'></i></td><td>{html.escape(outcome['expectation'])}</td>"
            f"<td>{rows}</td><td>{where}</td></tr>")
