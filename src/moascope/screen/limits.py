"""Limits of an image plane, checked before it is decoded, and the error for a plane beyond them."""

from __future__ import annotations

from typing import Any

from moascope.errors import MoascopeError

MAX_PIXELS = 2**28
"""Largest plane read: 16,384 pixels square, 512 MiB at 16 bits."""


class PlaneError(MoascopeError):
    """An image plane that cannot be used; `kind` is a word that reports count by.

    The kinds are missing, empty, truncated, unreadable, frame, large, depth, size and remote.
    """

    def __init__(self, problems: Any, kind: str = "unreadable"):
        super().__init__(problems)
        self.kind = kind

    def __reduce__(self):
        return type(self), (self.problems, self.kind)


def check_frame(name: str, frame: int, count: int) -> None:
    """Raise a PlaneError where an image of `count` planes has no such frame."""
    if not 0 <= frame < count:
        have = "only frame 0" if count == 1 else f"frames 0 to {count - 1}"
        raise PlaneError(f"{name} has {have}, not frame {frame}. "
                         "Correct the Frame_ column of load_data.csv.", "frame")


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise a PlaneError where a plane is larger than `max_pixels`, or has no pixels."""
    if width * height > max_pixels:
        raise PlaneError(f"{name} has {width:,} x {height:,} pixels according to its header, more "
                         f"than the {max_pixels:,} pixels that moascope reads at once.", "large")
    if width * height == 0:
        raise PlaneError(f"{name} has no pixels.")
