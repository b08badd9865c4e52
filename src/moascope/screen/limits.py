"""Limits of an image plane, checked before it is decoded, and the error for a plane beyond them."""

from __future__ import annotations

from typing import Any

from moascope.errors import MoascopeError

MAX_BYTES = 2**28
"""Most bytes decoded for one plane, counting all samples of its pixels and all its tiles."""

MAX_PIXELS = MAX_BYTES // 2
"""Largest plane read: 11,585 pixels square at 16 bits. A decoder may hold it twice."""

MAX_CHUNKS = 2**16
"""Most strips, tiles or chunks that one plane may be spread over."""


class PlaneError(MoascopeError):
    """An image plane that cannot be used; `kind` is a word that reports count by.

    The kinds are missing, empty, truncated, unreadable, frame, large, depth and size.
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


def check_decoded(name: str, size: int) -> None:
    """Raise a PlaneError where decoding a plane would fill more than `MAX_BYTES`."""
    if size > MAX_BYTES:
        raise PlaneError(f"{name} would fill {size / 2**20:,.0f} MiB once it is decoded, more than "
                         f"the {MAX_BYTES / 2**20:,.0f} MiB that moascope reads at once. Save each "
                         "channel as an image of its own, or in smaller tiles.", "large")


def check_depth(name: str, dtype: Any) -> None:
    """Raise a PlaneError for values other than 8-bit and 16-bit unsigned integers."""
    if dtype is None or dtype.kind != "u" or dtype.itemsize > 2:
        raise PlaneError(f"{name} holds {dtype or 'unknown'} values, and moascope reads 8-bit and "
                         "16-bit unsigned integers only. Export it as 16-bit.", "depth")


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise a PlaneError where a plane is larger than `max_pixels`, or has no pixels."""
    if width * height > max_pixels:
        raise PlaneError(f"{name} has {width:,} x {height:,} pixels according to its header, more "
                         f"than the {max_pixels:,} pixels that moascope reads at once.", "large")
    if width * height == 0:
        raise PlaneError(f"{name} has no pixels.")
