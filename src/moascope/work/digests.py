"""Digests of what decides a result: inputs, settings and code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any


def digest(*parts: Any) -> str:
    """SHA-256, in hexadecimal, of values that decide what a result will be.

    Parameters
    ----------
    *parts
        Bytes, params sections, tables, or anything that JSON can hold. Equal values give equal
        digests whatever the order of dictionary keys.
    """
    total = hashlib.sha256()
    for part in parts:
        content = part if isinstance(part, bytes) else _canonical(part)
        # The length keeps ("ab", "c") apart from ("a", "bc").
        total.update(f"{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def code_digest(*modules: ModuleType | str) -> str:
    """SHA-256 of the source of modules, and of every module inside packages.

    Parameters
    ----------
    *modules
        Modules, or their dotted names; a name is looked up without importing the module itself.
    """
    parts: list[Any] = []
    for module in modules:
        name = module if isinstance(module, str) else module.__name__
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} has no source file")
        origin = Path(spec.origin)
        files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
        parts += [[name, [file.relative_to(origin.parent).as_posix() for file in files]]]
        parts += [file.read_bytes() for file in files]
    return digest(*parts)


def _canonical(part: Any) -> bytes:
    if hasattr(part, "model_dump"):
        part = part.model_dump(mode="json")
    elif hasattr(part, "to_csv"):
        part = part.to_csv(index=False, lineterminator="\n")
    return json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
