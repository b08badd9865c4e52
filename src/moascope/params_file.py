"""params.yaml read and checked, with a sentence for every mistake in it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from moascope.errors import MoascopeError
from moascope.opening import MOST_YAML, parse_yaml, read_file
from moascope.params import SECRET, Params
from moascope.text import tidy


def load_params(path: Path = Path("params.yaml"), settings: Sequence[str] = ()) -> Params:
    """Read and check a parameter file.

    Parameters
    ----------
    path : Path
        A YAML file with the sections of `Params`; a missing section or key takes its default.
    settings : sequence of str
        What takes precedence over the file, as in `train.dropout=0.5`; values are YAML.

    Raises
    ------
    MoascopeError
        With one sentence for each key that is unknown or has a value out of its range.
    """
    try:
        content = parse_yaml(read_file(path, MOST_YAML).decode("utf-8-sig")) or {}
    except FileNotFoundError:
        raise MoascopeError(
            f"There is no {path} here. Go to the root of a moascope project, or make one with "
            "`moascope init FOLDER`."
        ) from None
    except OSError as error:
        raise MoascopeError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise MoascopeError(f"{path} is not UTF-8 (byte {error.start:,}). Save it as "
                            "UTF-8.") from None
    except ValueError as error:
        raise MoascopeError(f"{path} is not valid YAML: {error}.") from None
    if not isinstance(content, dict):
        raise MoascopeError(f"{path} must hold sections like 'train:', but holds a single value.")
    for setting in settings:
        _apply(setting, content)
    return parse_params(content, "params" if settings else str(path))


def _apply(setting: str, content: dict[str, Any]) -> None:
    key, equals, text = setting.partition("=")
    *sections, name = key.split(".")
    value = None
    try:
        value = parse_yaml(text)
    except ValueError:
        equals = ""
    if not equals or not name:
        raise MoascopeError(f"'{setting}' sets no parameter. Write it like train.dropout=0.5.")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise MoascopeError(f"'{setting}': {section} is not a section of the parameters.")
    content[name] = value


def parse_params(content: dict[str, Any], origin: str = "params") -> Params:
    """Check parameters that are already a nested dictionary; see `load_params`."""
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise MoascopeError(
            dict.fromkeys(_sentence(problem, origin) for problem in error.errors())
        ) from None


def _sentence(problem: Any, origin: str) -> str:
    if problem["type"] == SECRET:
        return f"{origin}: {problem['msg']}"
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        key = ".".join(location)
        near = difflib.get_close_matches(key, _known_keys(Params), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else " Remove it."
        return f"{origin}: '{key}' is not a parameter.{hint}"
    key = ".".join(_fields(location))
    value = tidy(repr(problem["input"]), most=200)
    said = problem["msg"].removeprefix("Value error, ").lower()
    return f"{origin}: {key} = {value} cannot be used: {said}."


def _fields(location: list[str]) -> list[str]:
    """The part of a location that names fields: behind it unions put the alternative they tried."""
    kept, model = [], Params
    for part in location:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in fields:
            break
        kept.append(part)
        model = _section(fields[part].annotation)
        if model is None:
            break
    return kept


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, or may hold; None where it holds a value."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        if section := _section(field.annotation):
            keys += _known_keys(section, key + ".")
    return keys
