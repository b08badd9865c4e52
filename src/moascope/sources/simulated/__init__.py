"""A simulated screen with the layout of idr0088, in which the truth is known.

Scores on it prove the software, never the biology. See docs/simulated.md.
"""

from moascope.sources.simulated.screen import simulate

__all__ = ["simulate"]
