"""Digests of what decides a result: inputs and settings."""

from __future__ import annotations

import hashlib
import json
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


def _canonical(part: Any) -> bytes:
    if hasattr(part, "model_dump"):
        part = part.model_dump(mode="json")
    elif hasattr(part, "to_csv"):
        part = part.to_csv(index=False, lineterminator="\n")
    return json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
