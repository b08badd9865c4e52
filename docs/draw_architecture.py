"""Draw the rooms of the package and the imports between them, read from the code.

    python docs/draw_architecture.py docs/architecture.svg

One row per room, from the command line down to the ground. A dot says that the room of the row
imports the room of the column; all dots lie to the right of the diagonal, because imports run
downwards.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "moascope"
CELL, LEFT, TOP, NUMBERS = 22, 110, 112, 70   # pixels


def floors() -> list[str]:
    """Rooms from the top down, as the test of the floor plan lists them."""
    for node in ast.parse((ROOT / "tests" / "test_house.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return ast.literal_eval(node.value)[::-1]
    raise SystemExit("tests/test_house.py has no list FLOORS.")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def read_rooms(rooms: list[str]) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """Number of files by (importing room, imported room), and lines of Python by room."""
    imports: dict[tuple[str, str], int] = {}
    lines = dict.fromkeys(rooms, 0)
    for path in sorted(PACKAGE.rglob("*.py")):
        own = room_of(path)
        if own not in lines:
            continue
        text = path.read_text()
        lines[own] += len(text.splitlines())
        others = set()
        for node in ast.walk(ast.parse(text)):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            others |= {name.split(".")[1] for name in names if name.startswith("moascope.")}
        for other in sorted(others & set(rooms) - {own}):
            imports[own, other] = imports.get((own, other), 0) + 1
    return imports, lines


def draw(rooms: list[str], imports: dict[tuple[str, str], int], lines: dict[str, int]) -> str:
    """The picture as SVG; the same code gives the same bytes."""
    side = CELL * len(rooms)
    width, height = LEFT + side + NUMBERS, TOP + side + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        "<title>Rooms of moascope and the imports between them</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{width - 8}" y="{TOP - 8}" text-anchor="end" fill="#666666">lines</text>',
    ]
    for index, room in enumerate(rooms):
        y, x = TOP + CELL * index, LEFT + CELL * index
        shade = "#f4f6f8" if index % 2 else "#ffffff"
        parts += [
            f'<rect x="0" y="{y}" width="{width}" height="{CELL}" fill="{shade}"/>',
            f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(room)}</text>',
            f'<text x="{width - 8}" y="{y + 15}" text-anchor="end" fill="#666666">'
            f"{lines[room]:,}</text>",
        ]
        parts.append(f'<text transform="translate({x + 15} {TOP - 8}) rotate(-60)">'
                     f"{escape(room)}</text>")
    for index, room in enumerate(rooms):
        x, y = LEFT + CELL * index, TOP + CELL * index
        parts.append(f'<rect x="{x + 3}" y="{y + 3}" width="{CELL - 6}" height="{CELL - 6}" '
                     'fill="#c9d3dc"/>')
        for column, other in enumerate(rooms):
            count = imports.get((room, other), 0)
            if count:
                parts.append(
                    f'<circle cx="{LEFT + CELL * column + CELL / 2:g}" cy="{y + CELL / 2:g}" '
                    f'r="{min(8, 2.5 + count ** 0.5):.1f}" fill="#1f6f8b">'
                    f"<title>{escape(room)} imports {escape(other)} in {count} "
                    f"file{'s' if count != 1 else ''}</title></circle>")
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    out = Path(sys.argv[1])
    rooms = floors()
    out.write_text(draw(rooms, *read_rooms(rooms)))
    print(f"{len(rooms)} rooms drawn into {out}")


if __name__ == "__main__":
    main()
