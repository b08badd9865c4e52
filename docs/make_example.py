"""Run docs/example.py in a project and write it down with its output and pictures: `make example`.

The script is in the percent format, which Jupyter (with Jupytext), VS Code, PyCharm and Spyder open
as a notebook.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NOTE = "<!-- Written by `make example` from example.py. -->"


def cells(script: str) -> list[tuple[str, str]]:
    """The kind ("markdown" or "code") and text of every cell."""
    found = []
    for part in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in text.strip().splitlines()]
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", text.strip()))
    return found


def run_cell(code: str, names: dict[str, Any]) -> str:
    """What a cell prints, and the value of its last line where that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
            if value is not None:
                print(value)
    return printed.getvalue().rstrip()


def run(script: Path, out: Path) -> None:
    """Run all cells in the current folder; `out` gets example.md and example_<number>.png."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.close("all")   # no figure of whoever calls
    names: dict[str, Any] = {"__name__": "example"}
    page, pictures = [NOTE], 0
    for kind, text in cells(script.read_text()):
        if kind == "markdown":
            page.append(text)
            continue
        page.append(f"```python\n{text}\n```")
        with pd.option_context("display.width", 118, "display.max_columns", None,
                               "display.max_colwidth", 30):
            printed = run_cell(text, names)
        if printed:
            page.append(f"```\n{printed}\n```")
        for number in plt.get_fignums():
            pictures += 1
            picture = out / f"example_{pictures}.png"
            plt.figure(number).savefig(picture, dpi=100, metadata={"Software": None})
            plt.close(number)
            page.append(f"![{text.splitlines()[-1]}]({picture.name})")
    (out / "example.md").write_text("\n\n".join(page) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE)
    run(HERE / "example.py", parser.parse_args().out)


if __name__ == "__main__":
    main()
