"""What lies in the folders of an object store (s3://, gs://)."""

from __future__ import annotations

from moascope.addresses.stores import Version, open_system, persistently, told_version


def list_folder(address: str) -> dict[str, Version | None]:
    """What lies directly in a folder.

    Returns
    -------
    dict
        By name, the version of a file, and None for a folder. Empty where nothing is there.

    Raises
    ------
    moascope.addresses.stores.Unavailable
    """
    try:
        return persistently(address, lambda: _list_once(address))
    except FileNotFoundError:
        return {}


def list_tree(address: str) -> dict[str, Version]:
    """All files below a folder, by their paths in it; empty where nothing is there.

    Raises
    ------
    moascope.addresses.stores.Unavailable
    """
    try:
        return persistently(address, lambda: _tree_once(address))
    except FileNotFoundError:
        return {}


def _list_once(address: str) -> dict[str, Version | None]:
    system, name = open_system(address)
    system.invalidate_cache()
    entries = {}
    for found in system.ls(name, detail=True):
        # A folder may be an object of its own, too, and then lists itself.
        if (entry := str(found["name"]).rstrip("/")) != name.rstrip("/"):
            entries[entry.rpartition("/")[2]] = (None if found.get("type") == "directory"
                                                 else told_version(address, found))
    return entries


def _tree_once(address: str) -> dict[str, Version]:
    system, name = open_system(address)
    system.invalidate_cache()
    home = name.rstrip("/") + "/"
    return {path.removeprefix(home): told_version(address, found)
            for path, found in system.find(name, detail=True).items() if path.startswith(home)}
