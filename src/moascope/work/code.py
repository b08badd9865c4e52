"""Which code decides a result: read as text, followed from a function to all that it can reach.

A digest of whole files changes with every comment, and one of whole modules with every function
that has nothing to do with the result. Here a definition of a module (a function, a class, a
constant) is the unit. It reaches what its names mean, through imports wherever they stand, and the
package's own files that it names (templates, style sheets, weights). What runs while a module is
imported belongs to each of its definitions. Where a name could mean anything in a module, all of
the module is meant: rather a run too many than one too few.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from moascope.work.syntax import Module, libraries_in, note_imports, parse_module, shape_of

# What is printed, tracked or watched, who does the work, and what is done ahead of it, decides no
# result. The registry is part of one: what register writes down. Values of parameters are DVC's to
# watch.
LEFT_OUT = ("errors", "pixels.ahead", "quiet", "tracking", "work.code", "work.parcels",
            "work.processes", "work.processors", "work.ray", "work.syntax", "params:Params",
            "params_file")
KEPT = ("tracking.registry", "tracking.pyfunc")
# What is imported, and the distributions whose versions can change the numbers that it gives.
LIBRARIES = {
    "imagecodecs": ("imagecodecs",), "keras": ("keras", "tensorflow"), "mahotas": ("mahotas",),
    "numpy": ("numpy",), "openvino": ("openvino",), "scipy": ("scipy",),
    "skimage": ("scikit-image",), "tifffile": ("tifffile", "imagecodecs"), "zarr": ("zarr",),
}
BODY = ""   # the statements of a module that are not definitions: they run when it is imported

Unit = tuple[str, str]


@dataclass(frozen=True)
class Reach:
    """What can be reached from some functions.

    Attributes
    ----------
    digests : dict of str to str
        Module or file of the package, relative to it -> SHA-256 of what is reached in it.
    libraries : frozenset of str
        Keys of `LIBRARIES` that are imported on the way.
    """

    digests: dict[str, str]
    libraries: frozenset[str]


@dataclass(frozen=True)
class _Found:
    """What a unit is and what it leads to."""

    digest: str
    leads_to: list[Unit]
    files: set[Path]
    libraries: set[str]


class Code:
    """The source of a package.

    Parameters
    ----------
    package : Path
        Its folder. Nothing of it is imported.
    """

    def __init__(self, package: Path):
        self.package = package
        self._read: dict[str, Module | None] = {}
        self._found: dict[Unit, _Found] = {}
        self._files = {path.name: path for path in sorted(package.rglob("*"))
                       if path.is_file() and "__pycache__" not in path.parts}

    def reach(self, *entries: str) -> Reach:
        """All that functions can reach.

        Parameters
        ----------
        *entries : str
            `room.module:function`, relative to the package, or `room.module` for all of it.

        Raises
        ------
        ValueError
            Where there is no such definition.
        """
        units: dict[Unit, _Found] = {}
        files: set[Path] = set()
        libraries: set[str] = set()
        waiting: list[Unit] = []
        for entry in entries:
            module, _, name = entry.partition(":")
            known = self._module(module)
            if known is None or (name and name not in known.definitions):
                raise ValueError(f"{entry} is not in {self.package}")
            waiting += self._all(module) if not name else [(module, name)]
        while waiting:
            unit = waiting.pop()
            if unit in units:
                continue
            found = self._looked_at(unit)
            libraries |= found.libraries
            if _is_left_out(*unit):
                continue
            units[unit] = found
            waiting += found.leads_to
            files |= found.files
        for path in list(files):
            files |= self._included(path)
        digests: dict[str, Any] = {}
        for (module, name), found in sorted(units.items(), key=lambda item: item[0]):
            total = digests.setdefault(module or "__init__", hashlib.sha256())
            total.update(f"{name} {found.digest}\n".encode())
        for path in sorted(files):
            digests[path.relative_to(self.package).as_posix()] = hashlib.sha256(path.read_bytes())
        return Reach({name: total.hexdigest() for name, total in sorted(digests.items())},
                     frozenset(libraries))

    def _looked_at(self, unit: Unit) -> _Found:
        if unit not in self._found:
            module, nodes = self._module(unit[0]), self._nodes(unit)
            assert module is not None
            leads_to = [(place, BODY) for place in self._executed(unit[0])]
            files: set[Path] = set()
            libraries: set[str] = set()
            for node in nodes:
                inside = list(ast.walk(node))
                leads_to += self._named(module, inside)
                libraries |= {name for name in libraries_in(inside, module) if name in LIBRARIES}
                mentioned, modules = self._mentioned(inside)
                files |= mentioned
                leads_to += [other for path in modules for other in self._all(self._name_of(path))]
            shape = repr([shape_of(node) for node in nodes])
            self._found[unit] = _Found(hashlib.sha256(shape.encode()).hexdigest(), leads_to, files,
                                       libraries)
        return self._found[unit]

    def _path(self, module: str) -> Path | None:
        stem = self.package.joinpath(*module.split(".")) if module else self.package
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
        return None

    def _name_of(self, path: Path) -> str:
        parts = path.relative_to(self.package).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _module(self, name: str) -> Module | None:
        if name not in self._read:
            path = self._path(name)
            self._read[name] = None if path is None else parse_module(
                name, ast.parse(path.read_text(encoding="utf-8")), self.package.name)
        return self._read[name]

    def _executed(self, module: str) -> list[str]:
        """The module and the packages around it: importing it runs them all."""
        parts = module.split(".") if module else []
        return [name for end in range(len(parts) + 1)
                if self._module(name := ".".join(parts[:end])) is not None]

    def _nodes(self, unit: Unit) -> list[ast.stmt]:
        module = self._module(unit[0])
        assert module is not None
        return module.body if unit[1] == BODY else module.definitions.get(unit[1], [])

    def _all(self, module: str) -> list[Unit]:
        known = self._module(module)
        assert known is not None
        return [(module, BODY), *((module, name) for name in known.definitions)]

    def _meant(self, target: str) -> list[Unit]:
        """The units that `room.module`, or `room.module.name`, stands for."""
        if self._module(target) is not None:
            return self._all(target)
        place, _, name = target.rpartition(".")
        module = self._module(place)
        if module is None:
            return self._meant(place) if place else []
        if name in module.definitions:
            return [(place, name)]
        if name in module.imports:   # handed on from elsewhere
            return [(place, BODY), *self._meant(module.imports[name])]
        return self._all(place)

    def _named(self, module: Module, inside: list[ast.AST]) -> list[Unit]:
        """What the names in a statement of a module mean."""
        known = dict(module.imports)
        note_imports(inside, self.package.name, module.name, known)
        units: list[Unit] = []
        consumed: set[int] = set()
        attributes: set[str] = set()
        sections = False
        for inner in inside:   # an attribute comes before the name that it is of
            if isinstance(inner, ast.Attribute):
                attributes.add(inner.attr)
                chain, root = [inner.attr], inner.value
                while isinstance(root, ast.Attribute):
                    chain.insert(0, root.attr)
                    root = root.value
                if isinstance(root, ast.Name) and id(root) not in consumed and root.id in known:
                    consumed.add(id(root))
                    target = known[root.id]
                    while chain and self._module(target) is not None:
                        target = f"{target}.{chain.pop(0)}".lstrip(".")
                    units += self._meant(target)
            elif isinstance(inner, ast.Name) and id(inner) not in consumed:
                sections |= inner.id == "Params"
                if inner.id in module.definitions:
                    units.append((module.name, inner.id))
                elif inner.id in known:
                    units += self._meant(known[inner.id])
        return units + (self._sections(attributes) if sections else [])

    def _sections(self, attributes: set[str]) -> list[Unit]:
        """The classes of the sections that are taken from `Params`, by the names of its fields."""
        params = self._module("params")
        if params is None:
            return []
        return [("params", name.id)
                for node in params.definitions.get("Params", []) for part in ast.walk(node)
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                and part.target.id in attributes
                for name in ast.walk(part.annotation)
                if isinstance(name, ast.Name) and name.id in params.definitions]

    def _mentioned(self, inside: list[ast.AST]) -> tuple[set[Path], set[Path]]:
        """Files of the package whose names stand in a statement, and modules among them."""
        found = {self._files[inner.value] for inner in inside
                 if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                 and inner.value in self._files}
        modules = {path for path in found if path.suffix == ".py"}
        return found - modules, modules

    def _included(self, path: Path) -> set[Path]:
        """Files that a template names, and those that they name."""
        found: set[Path] = set()
        waiting = [path]
        while waiting:
            one = waiting.pop()
            if one in found or one.suffix not in (".jinja", ".css", ".html"):
                continue
            found.add(one)
            text = one.read_text(encoding="utf-8")
            waiting += [other for name, other in self._files.items()
                        if other.suffix != ".py" and name in text]
        return found


def code_digest(*functions: Callable[..., Any] | str) -> str:
    """SHA-256 of the code of moascope that functions can reach, and of libraries that they use.

    Parameters
    ----------
    *functions
        Functions of moascope, or their names as `Code.reach` takes them.

    Returns
    -------
    str
        It changes with the versions of the libraries that decide numbers (see `LIBRARIES`), so
        that what was computed by one version is never taken for what another gives.
    """
    found = _own().reach(*(function if isinstance(function, str) else _entry(function)
                           for function in functions))
    versions = {name: _version(name) for library in found.libraries for name in LIBRARIES[library]}
    return hashlib.sha256(repr([found.digests, sorted(versions.items())]).encode()).hexdigest()


@cache
def environment_digest() -> str:
    """SHA-256 of all files of moascope and of the versions of libraries that decide numbers."""
    package = Path(__file__).parents[1]
    files = {}
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
            with path.open("rb") as file:
                files[path.relative_to(package).as_posix()] = hashlib.file_digest(
                    file, "sha256").hexdigest()
    versions = {name: _version(name) for names in LIBRARIES.values() for name in names}
    return hashlib.sha256(repr([sorted(files.items()),
                                sorted(versions.items())]).encode()).hexdigest()


def stage_lines(stage: str) -> str:
    """What a stage depends on: a line for each module that it can reach, with its digest."""
    found = _own().reach(f"stages.{stage}:{stage}").digests
    return "".join(f"{name} {digest}\n" for name, digest in found.items())


@cache
def _own() -> Code:
    return Code(Path(__file__).parents[1])


def _entry(function: Callable[..., Any]) -> str:
    return f"{function.__module__.partition('.')[2]}:{function.__qualname__}"


@cache
def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _is_left_out(module: str, name: str) -> bool:
    def among(entries: tuple[str, ...]) -> bool:
        return any(f"{module}:{name}" == entry or module == entry or module.startswith(f"{entry}.")
                   for entry in entries)

    return among(LEFT_OUT) and not among(KEPT)


