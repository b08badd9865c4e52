"""The source of a module as definitions and imports, without comments, docstrings and places."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Module:
    """A module: its definitions, the statements that run when it is imported, and its imports.

    `imports` says where in the package a name is from, `outside` which library it is from.
    """

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    body: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)


def parse_module(name: str, tree: ast.Module, package: str) -> Module:
    module = Module(name)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            module.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            note_imports([node], package, name, module.imports)
            _note_libraries(node, module.outside)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and (names := _assigned(node)):
            for one in names:
                module.definitions.setdefault(one, []).append(node)
        elif not _is_text(node):
            if not _is_for_checkers(node):
                module.body.append(node)
            note_imports(ast.walk(node), package, name, module.imports)
    return module


def _assigned(node: ast.Assign | ast.AnnAssign) -> list[str]:
    """The names that a statement assigns to; none where it also changes something else."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat: list[ast.expr] = []
    for target in targets:
        flat += target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
    return ([one.id for one in flat if isinstance(one, ast.Name)]
            if all(isinstance(one, ast.Name) for one in flat) else [])


def note_imports(inside: Iterable[ast.AST], package: str, module: str,
                  known: dict[str, str]) -> None:
    """Note what the imports among nodes bind: names to places relative to the package."""
    for inner in inside:
        if isinstance(inner, ast.Import):
            for alias in inner.names:
                if alias.name.split(".")[0] == package:
                    known[alias.asname or package] = (
                        alias.name.partition(".")[2] if alias.asname else "")
        elif isinstance(inner, ast.ImportFrom):
            place = _place(inner, package, module)
            for alias in inner.names if place is not None else ():
                known[alias.asname or alias.name] = f"{place}.{alias.name}".lstrip(".")


def _note_libraries(node: ast.Import | ast.ImportFrom, outside: dict[str, str]) -> None:
    for alias in node.names:
        library = (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[0]
        outside[alias.asname or alias.name.split(".")[0]] = library


def _place(node: ast.ImportFrom, package: str, module: str) -> str | None:
    if node.level:
        above = module.split(".")[:-node.level]
        return ".".join([*above, *([node.module] if node.module else [])])
    name = node.module or ""
    return name.partition(".")[2] if name.split(".")[0] == package else None


def libraries_in(inside: list[ast.AST], module: Module) -> Iterator[str]:
    """Libraries that a definition imports itself, or uses by a name of its module's."""
    for inner in inside:
        if isinstance(inner, ast.Import):
            yield from (alias.name.split(".")[0] for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom) and inner.module and not inner.level:
            yield inner.module.split(".")[0]
        elif isinstance(inner, ast.Name) and inner.id in module.outside:
            yield module.outside[inner.id]


def _is_text(node: ast.AST) -> bool:
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))


def _is_for_checkers(node: ast.AST) -> bool:
    """Whether a statement never runs: what is imported for annotations alone."""
    return (isinstance(node, ast.If) and not node.orelse and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING")


def shape_of(node: Any) -> Any:
    """A syntax tree as nested lists: without places, comments, docstrings and what is empty.

    The last is what Python versions differ in (`ast.dump` is not the same text in all of them).
    """
    if isinstance(node, ast.AST):
        return [type(node).__name__, *(
            [name, shape_of(value)] for name, value in ast.iter_fields(node)
            if value is not None and value != [])]
    if isinstance(node, list):
        return [shape_of(item) for item in node if not _is_text(item)]
    return repr(node)
