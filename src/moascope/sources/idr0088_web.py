"""idr0088 through OMERO.web: which image is in which well, and its 8-bit renderings.

The routes are those of ome/omero-web (webgateway, webclient): `render_image` always answers with
an 8-bit JPEG, so this is for looking, not for measuring.
"""

from __future__ import annotations

from urllib.parse import urlencode

from moascope.errors import MoascopeError
from moascope.screen.wells import canonical_well
from moascope.sources.http import Unlike, Visit, below, fetch_json, greet

SCREEN = 2651
WINDOWS = ((27, 4319, "0000FF"), (0, 6193, "00FF00"), (0, 3880, "FF0000"))
"""Darkest and brightest value, and colour, of the channels (idr0088-render.yml)."""

_MOST_PAGES = 100


def plate_ids(session: Visit, web: str) -> dict[str, int]:
    """The identifier of every plate of the screen, by its name (barcode)."""
    greet(session, below(web, "webclient/?experimenter=-1"))
    ids: dict[str, int] = {}
    for page in range(1, _MOST_PAGES + 1):
        address = below(web, f"webclient/api/plates/?id={SCREEN}&page={page}")
        answer = fetch_json(session, address)
        try:
            found = {str(plate["name"]): int(plate["id"]) for plate in answer["plates"]}
        except (KeyError, TypeError, ValueError):
            raise Unlike(_unlike(address, "a list of plates")) from None
        # A server without paging sends the same plates again.
        if not set(found) - set(ids):
            return ids
        ids |= found
    return ids


def field_images(session: Visit, web: str, plate: int, field: int) -> dict[str, int]:
    """The identifier of the image of each well in one field (from 1); wells without are absent."""
    address = below(web, f"webgateway/plate/{plate}/{field - 1}/")
    answer = fetch_json(session, address)
    try:
        images = {}
        for row, cells in zip(answer["rowlabels"], answer["grid"], strict=True):
            for column, cell in zip(answer["collabels"], cells, strict=True):
                if cell:
                    images[canonical_well(f"{row}{column}")] = int(cell["id"])
    except (KeyError, TypeError, ValueError, MoascopeError):
        raise Unlike(_unlike(address, "a plate's grid of wells")) from None
    return images


def render_address(web: str, image: int, channel: int) -> str:
    """Address of one channel (from 1) of an image, in grey, at its fixed window."""
    parts = [f"{number}|{low}:{high}${colour}" if number == channel else f"-{number}"
             for number, (low, high, colour) in enumerate(WINDOWS, start=1)]
    query = urlencode({"c": ",".join(parts), "m": "g", "q": "0.9"}, safe=",:$")
    return below(web, f"webgateway/render_image/{image}/0/0/?{query}")


def _unlike(address: str, what: str) -> str:
    return (f"{address} did not answer with {what}, as OMERO.web does. The service may have "
            "changed; open the address in a browser.")
