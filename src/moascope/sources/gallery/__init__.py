"""The source `gallery`: plates of the Cell Painting Gallery, whose images stay in its bucket.

See docs/sources.md.
"""

from moascope.sources.gallery.selection import ORIGIN, collect, plan

__all__ = ["ORIGIN", "collect", "plan"]
