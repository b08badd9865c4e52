"""Elements of an XML file, one after the other, from files that are not trusted."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from moascope.errors import MoascopeError
from moascope.opening import open_file

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def read_elements(source: Path | IO[bytes], names: Collection[str],
                  called: str) -> Iterator[Element]:
    """Yield the elements with some names as they end, and release each after use.

    Memory therefore does not grow with the size of an index. Names are compared without their
    namespace, whose version differs from instrument to instrument.

    Parameters
    ----------
    source : Path or binary file
    names : collection of str
        Which elements; of nested ones the outermost.
    called : str
        The name of the file in messages.

    Raises
    ------
    MoascopeError
        When it is not well-formed XML, cannot be read, or declares entities or a document type:
        instruments do not, and a few lines of them can exhaust memory ("billion laughs") or expose
        other files (https://owasp.org/www-community/vulnerabilities/XML_External_Entity_(XXE)_Processing).
    """
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    open_elements: list[Element] = []
    wanted = 0
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(open_file(source)) if isinstance(source, Path) else source
            for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
                inside = local(element.tag) in names
                if event == "start":
                    open_elements.append(element)
                    wanted += inside
                    continue
                open_elements.pop()
                wanted -= inside
                if wanted:
                    continue
                if inside:
                    yield element
                if open_elements:
                    open_elements[-1].remove(element)
    except DefusedXmlException:
        raise MoascopeError(
            f"{called} declares XML entities or a document type, which no instrument writes and "
            "which can exhaust memory or expose other files. It is not read; remove it to import "
            "by file names alone.") from None
    except ParseError as error:
        raise MoascopeError(f"{called} is damaged: {error}. Copy it again, or remove it to "
                            "import by file names alone.") from None
    except (LookupError, RecursionError, ValueError) as error:
        raise MoascopeError(f"{called} cannot be read as XML: {error}. Copy it again, or remove "
                            "it to import by file names alone.") from None
    except OSError as error:
        raise MoascopeError(f"{called} cannot be read: {error.strerror}.") from None


def local(name: str) -> str:
    """The name of an element or attribute without its namespace."""
    return name.rpartition("}")[2]


def attributes(element: Element) -> dict[str, str]:
    """An element's attributes, without their namespaces."""
    return {local(name): value.strip() for name, value in element.items()}


def children(element: Element) -> dict[str, str]:
    """The text of an element's children by their names; the first of each name."""
    found: dict[str, str] = {}
    for child in element:
        found.setdefault(local(child.tag), (child.text or "").strip())
    return found
