"""Merging a newer params.yaml into a person's, without touching their values and comments.

Three texts take part: the person's own, the base (what the package brought when the project was
made) and the new one. Only their difference to the base tells a person's choice from a default.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from moascope.errors import MoascopeError
from moascope.opening import parse_yaml
from moascope.text import listing

Mapping = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What happens to one key of the person's file.

    Attributes
    ----------
    path : tuple of str
        The sections and the key.
    kind : str
        "added", "removed", "moved" (an untouched default takes the new default) or "kept" (the
        default moved, the person's value stays).
    before, after
        Values: what the file held, and what it holds now; of "kept", the person's value and the
        new default.
    """

    path: tuple[str, ...]
    kind: str
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        key = ".".join(self.path)
        before, after = _flow(self.before), _flow(self.after)
        return {
            "added": f"{key} is new: {after}",
            "removed": f"{key} is gone: it is no longer a parameter (it was {before})",
            "moved": f"{key} takes the new default: {after} (it was {before})",
            "kept": f"{key} stays {before}, as you set it (the new default is {after})",
        }[self.kind]


def merge_params(own: str, base: str, new: str) -> tuple[str, list[Change]]:
    """A person's params.yaml with what a newer package adds, removes and sets otherwise.

    Parameters
    ----------
    own, base, new : str
        YAML texts. An empty `base` makes every value in `own` the person's.

    Returns
    -------
    text : str
        `own`, byte for byte but for the changes.
    changes : list of Change

    Raises
    ------
    MoascopeError
        Where `own` is not a mapping, or is written in a way that cannot be edited in place.
    """
    try:
        content = parse_yaml(own) or {}
    except ValueError as error:
        raise MoascopeError(f"params.yaml is not valid YAML: {error}.") from None
    if not isinstance(content, dict):
        raise MoascopeError("params.yaml must hold sections like 'train:', but holds a single "
                            "value.")
    target = yaml.safe_load(new)
    changes = list(_plan(content, yaml.safe_load(base) or {}, target, ()))
    if not own.endswith("\n"):
        own += "\n"
    text = own
    # Each edit is made on freshly parsed text: positions move, and a file of parameters is short.
    try:
        for change in changes:
            text = _EDITS[change.kind](text, change.path, new)
        edited = parse_yaml(text)
    except (StopIteration, ValueError, yaml.YAMLError):
        # A key stands elsewhere, or an edit has broken the text.
        edited = None
    if edited != _applied(content, changes):
        raise MoascopeError("params.yaml cannot be edited in place (it may hold anchors or "
                            "merge keys). Write its sections as the package does, and try "
                            "again.")
    return text, changes


def set_values(text: str, values: Mapping) -> str:
    """params.yaml with other values at some keys; comments and everything else stay.

    Parameters
    ----------
    text : str
    values : dict of str to object
        By key, such as "acquire.source".

    Raises
    ------
    MoascopeError
        Where the text is not valid YAML, or lacks a key's section.
    """
    try:
        for key, value in values.items():
            path = tuple(key.split("."))
            if path[-1] in {entry.key.value for entry in _entries(text, path[:-1])[1]}:
                text = _replace_value(text, path, value)
            else:
                section = {path[-1]: value}
                for name in reversed(path[:-1]):
                    section = {name: section}
                text = _add(text, path, yaml.safe_dump(section, sort_keys=False))
    except (StopIteration, yaml.YAMLError):
        raise MoascopeError("params.yaml cannot be edited in place: it is not valid YAML, or lacks "
                            f"a section of {listing(values)}. `moascope init --upgrade` shows "
                            "what is wrong.") from None
    return text


def _plan(own: Mapping, base: Mapping, new: Mapping, path: tuple[str, ...]) -> Iterator[Change]:
    for key, value in new.items():
        here = (*path, key)
        if key not in own:
            # What the base had and the person's file lacks was removed by the person.
            if key not in base:
                yield Change(here, "added", after=value)
        elif isinstance(value, dict) and isinstance(own[key], dict):
            before = base.get(key)
            yield from _plan(own[key], before if isinstance(before, dict) else {}, value, here)
        elif key in base and value != base[key] and own[key] != value:
            kind = "moved" if own[key] == base[key] else "kept"
            yield Change(here, kind, before=own[key], after=value)
    for key in own:
        if key in base and key not in new:
            yield Change((*path, key), "removed", before=own[key])


def _applied(content: Mapping, changes: list[Change]) -> Mapping:
    result = copy.deepcopy(content)
    for change in changes:
        *sections, key = change.path
        section = result
        for name in sections:
            section = section[name]
        if change.kind == "removed":
            del section[key]
        elif change.kind != "kept":
            section[key] = change.after
    return result


@dataclass(frozen=True)
class _Entry:
    """A key of a mapping in its text; lines count from 0, `stop` is the first that is not its."""

    key: yaml.ScalarNode
    value: yaml.Node
    start: int
    stop: int

    @property
    def column(self) -> int:
        return self.key.start_mark.column


def _entries(text: str, path: tuple[str, ...]) -> tuple[yaml.MappingNode | None, list[_Entry]]:
    """The mapping at `path`, and its keys in order."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    for name in path:
        node = next(value for key, value in node.value if key.value == name)
    lines = text.splitlines()
    entries = []
    for key, value in node.value if node is not None else ():
        stop = _last_line(value) + 1
        # A comment that goes on below its key is indented further than the key.
        while (stop < len(lines) and lines[stop].lstrip().startswith("#")
               and _indent(lines[stop]) > key.start_mark.column):
            stop += 1
        entries.append(_Entry(key, value, key.start_mark.line, stop))
    return node, entries


def _last_line(node: yaml.Node) -> int:
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end = node.end_mark
    return end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _find(text: str, path: tuple[str, ...]) -> _Entry:
    return next(entry for entry in _entries(text, path[:-1])[1] if entry.key.value == path[-1])


def _add(text: str, path: tuple[str, ...], new: str) -> str:
    mapping, entries = _entries(text, path[:-1])
    _, models = _entries(new, path[:-1])
    place = next(i for i, entry in enumerate(models) if entry.key.value == path[-1])
    model = models[place]
    if isinstance(mapping, yaml.MappingNode) and mapping.flow_style:
        at = mapping.start_mark.index + 1
        value = yaml.safe_load(new[model.value.start_mark.index:model.value.end_mark.index])
        return f"{text[:at]}{path[-1]}: {_flow(value)}, {text[at:]}"
    before = {entry.key.value for entry in models[:place]}
    above = [entry for entry in entries if entry.key.value in before]
    line = above[-1].stop if above else entries[0].start if entries else len(text.splitlines())
    source = new.splitlines()
    lead = model.start
    while lead > 0 and source[lead - 1].lstrip().startswith("#") \
            and _indent(source[lead - 1]) == model.column:
        lead -= 1
    if place and lead < models[place - 1].stop:
        lead = models[place - 1].stop
    if not place:
        lead = model.start   # what stands above the first key speaks of the file or the section
    shift = (entries[0].column if entries else model.column) - model.column
    block = [" " * max(0, _indent(row) + shift) + row.lstrip() if row.strip() else row
             for row in source[lead:model.stop]]
    if len(path) == 1 and isinstance(model.value, yaml.MappingNode):
        block.insert(0, "")
    lines = text.splitlines()
    return "\n".join([*lines[:line], *block, *lines[line:]]) + "\n"


def _remove(text: str, path: tuple[str, ...], new: str) -> str:
    mapping, entries = _entries(text, path[:-1])
    if isinstance(mapping, yaml.MappingNode) and mapping.flow_style:
        return _replace_value(text, path[:-1], {
            entry.key.value: yaml.safe_load(
                text[entry.value.start_mark.index:entry.value.end_mark.index])
            for entry in entries if entry.key.value != path[-1]})
    entry = _find(text, path)
    lines = text.splitlines()
    rest = [*lines[:entry.start], *lines[entry.stop:]]
    if len(entries) == 1:
        rest.insert(entry.start, " " * entry.column + "{}")
    return "\n".join(rest) + "\n"


def _move(text: str, path: tuple[str, ...], new: str) -> str:
    own, model = _find(text, path), _find(new, path)
    if _inline(own.value) and _inline(model.value):
        start, end = own.value.start_mark.index, own.value.end_mark.index
        value = new[model.value.start_mark.index:model.value.end_mark.index]
        gap = "" if text[start - 1].isspace() else " "
        return text[:start] + gap + value + text[end:]
    mapping, _ = _entries(text, path[:-1])
    if mapping is not None and mapping.flow_style:
        value = yaml.safe_load(new)
        for name in path:
            value = value[name]
        return _replace_value(text, path, value)
    shift = own.column - model.column
    block = [" " * max(0, _indent(row) + shift) + row.lstrip() if row.strip() else row
             for row in new.splitlines()[model.start:_last_line(model.value) + 1]]
    lines = text.splitlines()
    return "\n".join([*lines[:own.start], *block, *lines[_last_line(own.value) + 1:]]) + "\n"


def _replace_value(text: str, path: tuple[str, ...], value: Any) -> str:
    node = _find(text, path).value
    return text[:node.start_mark.index] + _flow(value) + text[node.end_mark.index:]


def _inline(node: yaml.Node) -> bool:
    """Whether a value stands on its key's line, so that it can be replaced where it stands."""
    if isinstance(node, yaml.CollectionNode):
        return bool(node.flow_style) and node.start_mark.line == node.end_mark.line
    return (node.style not in ("|", ">")  # pyright: ignore[reportAttributeAccessIssue]
            and node.start_mark.line == node.end_mark.line)


def _keep(text: str, path: tuple[str, ...], new: str) -> str:
    return text


_EDITS = {"added": _add, "removed": _remove, "moved": _move, "kept": _keep}


def _flow(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
