"""What the two markers of a panel look like, and the shape of the cells of a line."""

from __future__ import annotations

from dataclasses import dataclass

from moascope.errors import MoascopeError


@dataclass(frozen=True)
class Marker:
    """One tagged protein. Levels are fractions of `peak`, lengths are pixels."""

    peak: float = 900.0         # camera counts
    diffuse: float = 0.3        # throughout the cytoplasm
    nuclear: float = 0.12       # in the nucleoplasm
    network: float = 0.0        # strength of the fibrous or reticular structure
    texture: str = "reticulum"  # which structure; see cells.TEXTURES
    spots: float = 6.0          # mean number per cell
    spot_peak: float = 0.35
    spot_size: float = 0.4      # scatter of the light of a spot around its centre
    where: str = "cytoplasm"    # cytoplasm, golgi or nucleus
    decay: float = 9.0          # distance from the nucleus over which the signal falls to 1/e
    near: float = 0.4           # share of the cytoplasmic signal that falls off with distance
    cortex: float = 0.0         # rim at the cell border


MARKERS = {
    "ACTB": Marker(diffuse=0.22, nuclear=0.05, network=0.55, texture="bundles", spots=9,
                   spot_peak=0.6, near=0.4, decay=7, cortex=0.4),
    "RAB5A": Marker(diffuse=0.16, nuclear=0.10, spots=24, spot_peak=0.8, spot_size=0.7,
                    near=0.5, network=0.08),
    "CANX": Marker(diffuse=0.15, nuclear=0.06, network=0.75, texture="reticulum", near=0.75,
                   decay=7, spot_peak=0.5),
    "COX4I1": Marker(diffuse=0.08, nuclear=0.04, network=0.60, texture="mitochondria",
                     near=0.5, decay=9, spots=2),
    "GM130": Marker(diffuse=0.10, nuclear=0.06, spots=38, spot_peak=0.30,
                    where="golgi", spot_size=0.5, decay=8),
    "SQSTM1": Marker(diffuse=0.30, nuclear=0.24, spots=7, spot_peak=1.0, spot_size=1.0,
                     network=0.12),
    "TP53BP1": Marker(diffuse=0.16, nuclear=0.50, spots=3.5, spot_peak=0.9, where="nucleus",
                      spot_size=0.6, near=0.6, decay=7),
    "CLTA": Marker(diffuse=0.18, nuclear=0.06, spots=55, spot_peak=0.45, spot_size=0.2,
                   near=0.5, network=0.08),
    "TUBA1B": Marker(diffuse=0.20, nuclear=0.06, network=0.75, texture="microtubules", near=0.7,
                     decay=8, spots=9, spot_peak=0.6),
    "RELA": Marker(diffuse=0.55, nuclear=0.26, network=0.2, near=0.3, spots=2),
}

# The reporter lines of idr0088: the first marker is shown in Green, the second in Red.
MARKER_PAIRS = ("ACTB-RAB5A", "CANX-COX4I1", "GM130-SQSTM1", "TP53BP1-CLTA", "TUBA1B-RELA")


@dataclass(frozen=True)
class Line:
    """Shape and arrangement of the cells of a line; lengths are pixels."""

    cells: float               # in 128 x 128 pixels
    nucleus: float             # mean diameter
    nuclear_elongation: float  # ratio of the axes
    radius: float              # of the cell body, geometric mean of the axes
    elongation: float
    ruffle: float              # how far the outline strays from an ellipse
    clumping: float            # 0: evenly spread, 1: in islands


LINES = {
    "A549": Line(17, 16.5, 1.25, 15.5, 1.45, 0.16, 0.25),
    "HepG2": Line(23, 15.0, 1.10, 12.5, 1.15, 0.08, 0.85),
    "WPMY1": Line(13, 18.0, 1.45, 18.5, 2.60, 0.22, 0.10),
}


def panel_parts(panel: str) -> tuple[Line, Marker, Marker]:
    """Look up the line and the markers in Green and Red that a panel's name stands for.

    Parameters
    ----------
    panel : str
        A line and a marker pair, as in "A549 ACTB-RAB5A".

    Raises
    ------
    MoascopeError
        If there is no such line or pair.
    """
    line, _, pair = panel.partition(" ")
    if line not in LINES or pair not in MARKER_PAIRS:
        raise MoascopeError(
            f"params.yaml: simulated.panels names '{panel}', which cannot be simulated. A panel is "
            f"a line ({', '.join(LINES)}), a space and a marker pair ({', '.join(MARKER_PAIRS)}), "
            "for example 'A549 ACTB-RAB5A'.")
    green, red = pair.split("-")
    return LINES[line], MARKERS[green], MARKERS[red]
