"""What a study may draw: the space of hyperparameters in params.yaml, checked and drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.params import HEADS, NETWORK, OF_EVERY_HEAD, TUNED, Head, Params, Tune

if TYPE_CHECKING:
    import optuna


def settled(params: Params) -> Tune:
    """`tune`, its space without what `train` has settled: heads are judged as they are trained.

    Parameters
    ----------
    params : Params
        `tune` and `train` are read.

    Returns
    -------
    Tune
        Of hyperparameters that every kind of head has, a value in `train` is the only choice. With
        `train.head` tuned, the space has every kind of head, or those that it names itself. What
        only a network has stays: a value in `train` replaces the study's choice afterwards.
    """
    train, space = params.train, params.tune.space
    if train.head not in (NETWORK, TUNED):
        return params.tune   # nothing of it is used
    values = {name: [value] for name, value in
              train.model_dump(include=OF_EVERY_HEAD - {"head"}).items() if value != TUNED}
    kinds = ({"head": space.get("head", list(HEADS))} if train.head == TUNED else
             {"head": [NETWORK]} if "head" in space else {})
    return params.tune.model_copy(update={"space": {**space, **values, **kinds}})


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> Head:
    """Draw a head from a static space.

    Parameters
    ----------
    trial : optuna.Trial
    space : dict
        Hyperparameter -> a list of choices, or `{low, high}` with optional `log`.

    Raises
    ------
    MoascopeError
        When an entry names no hyperparameter or has another form.
    """
    check_space(space)
    drawn: dict[str, Any] = {}
    # What kind a head is decides what else there is to draw.
    for name in sorted(space, key=lambda name: name != "head"):
        entry = space[name]
        if drawn.get("head", NETWORK) != NETWORK and name not in OF_EVERY_HEAD:
            continue
        if isinstance(entry, list):
            drawn[name] = trial.suggest_categorical(name, entry)
        else:
            draw = (trial.suggest_int if all(isinstance(entry[k], int) for k in ("low", "high"))
                    else trial.suggest_float)
            drawn[name] = draw(name, entry["low"], entry["high"], log=entry.get("log", False))
    return Head(**drawn)



def kinds_of(space: dict[str, Any]) -> list[str]:
    """The kinds of head that a space holds, the network first."""
    return sorted(space.get("head", [NETWORK]), key=lambda kind: kind != NETWORK)


def given_to(number: int, space: dict[str, Any]) -> dict[str, Any]:
    """What a trial is given to try, by its number; the sampler draws the rest.

    Parameters
    ----------
    number : int
    space : dict
        See `suggest`.

    Returns
    -------
    dict
        Hyperparameter -> value. The first trial has the defaults, so that a study never ends with
        less than they give. Each of the next has another kind of head, once: these have little to
        draw. All others are networks, where the space has any.
    """
    kinds = kinds_of(space)
    if number < len(kinds):
        return drawn_by_default(space) | ({"head": kinds[number]} if "head" in space else {})
    return {"head": NETWORK} if "head" in space and NETWORK in kinds else {}


def drawn_by_default(space: dict[str, Any]) -> dict[str, Any]:
    """The defaults of the hyperparameters that a space holds, or what it has next to them."""
    return {name: _nearest(space[name], value) for name, value in Head().model_dump().items()
            if name in space}


def check_space(space: dict[str, Any]) -> None:
    """Fail on an entry that names no hyperparameter, is malformed, or leads out of range.

    Parameters
    ----------
    space : dict
        `tune.space` of params.yaml; see `suggest`.

    Raises
    ------
    MoascopeError
        With a sentence for each.
    """
    problems = []
    for name, entry in space.items():
        where = f"params.yaml: tune.space.{name}"
        if name not in Head.model_fields:
            problems.append(
                f"params.yaml: tune.space has '{name}', which is not a hyperparameter of the head. "
                f"Choose among {', '.join(Head.model_fields)}.")
        elif isinstance(entry, list) and entry:
            problems += [sentence for value in entry if (sentence := _refused(name, value))]
        elif not (isinstance(entry, dict) and {"low", "high"} <= set(entry) <= {"low", "high",
                                                                                "log"}):
            problems.append(f"{where} must be a list of choices or a range "
                            "{low: ..., high: ..., log: true}.")
        elif not all(isinstance(entry[end], (int, float)) for end in ("low", "high")):
            problems.append(f"{where}: low and high must be numbers. YAML takes 1e-4 for a word; "
                            "write 0.0001 or 1.0e-4.")
        elif entry["low"] > entry["high"] or (entry.get("log") and entry["low"] <= 0):
            problems.append(f"{where}: low must not be above high, and on a log scale it must be "
                            "above 0.")
        else:
            problems += [sentence for end in ("low", "high")
                         if (sentence := _refused(name, entry[end]))]
    if problems:
        raise MoascopeError(problems)



def _refused(name: str, value: Any) -> str:
    from pydantic import ValidationError

    try:
        Head(**{name: value})
    except ValidationError as error:
        return (f"params.yaml: tune.space.{name}: {value!r} cannot be used: "
                f"{error.errors()[0]['msg'].lower()}.")
    return ""



def _nearest(entry: Any, value: Any) -> Any:
    """The value itself where the space has it, else the end of the range, or the first choice."""
    if isinstance(entry, list):
        return value if value in entry else entry[0]
    return min(max(value, entry["low"]), entry["high"])

