"""Promotion: a candidate that passes the gate gets the alias; one that fails changes nothing.

MLflow is the source of truth for many machines: every decision is a run in the experiment
"<name> promotions". `reports/promote/history.csv` is a copy of that history that only grows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import shlex
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moascope.errors import MoascopeError
from moascope.learning.model import read_model
from moascope.params import Params
from moascope.promotion.contenders import (
    Contender,
    Pipeline,
    asked_digest,
    check_comparable,
    load_pipeline,
    unseen_hold_out,
)
from moascope.promotion.gate import Decision, decide
from moascope.promotion.held_out import answers, check_served, measure, site_logits
from moascope.promotion.records import HOLDS, PROMOTED, REFUSED, history, write_decision
from moascope.text import listing
from moascope.tracking.registry import CANDIDATE, aliases_of, fetch_model
from moascope.tracking.runs import connect, git_state, require_store
from moascope.work.digests import digest
from moascope.work.files import rounded

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGING, PRODUCTION = "staging", "production"
# A promotion writes for a second or two; a longer wait means that something is broken.
LOCK_SECONDS = 300


def promote(
    params: Params, data: Path, report: Path, to: str = STAGING, name: str | None = None,
    version: str | None = None, unseen_only: bool = False, dry_run: bool = False,
) -> dict[str, Any]:
    """Score a candidate and the incumbent on the held-out compounds, and move the alias or not.

    Parameters
    ----------
    params : Params
        `promote` is the gate.
    data : Path
        The folder with acquire, embed, split and train.
    report : Path
        Gets `promotion.json` and `history.csv`.
    to : {"staging", "production"}
    name : str, optional
        Of the registered model; by default `register.name`.
    version : str, optional
        Of the candidate; by default the holder of `candidate`, and for production the holder of
        `staging`.
    unseen_only : bool
        Use only held-out compounds that neither model was trained on.
    dry_run : bool
        Write nothing anywhere.

    Returns
    -------
    dict
        The record as in promotion.json. `decision` is "promoted" or "refused" (in a dry run: what
        it would be), or "holds" if the version already holds the alias.

    Raises
    ------
    MoascopeError
        Where nothing can be decided: no such model, no compounds to compare on, a registered
        model that differs from the trained one, ...

    Notes
    -----
    Scoring takes no lock. Right before writing, under a lock on this machine, the holder is read
    again; if it has changed, the candidate is scored again, against the new holder. Machines that
    share a server do not share the lock: for them the holder is read once more between the
    records and the alias. The time of two calls remains in which the later one wins.
    """
    model = "" if name is None else f" --model {shlex.quote(name)}"
    name = name or params.register_.name
    address = connect()
    require_store(address)
    from mlflow import MlflowClient

    client = MlflowClient()
    chosen = _choose(client, name, to, version, model)
    pipeline = None
    while (holder := aliases_of(client, name).get(to)) != chosen:
        pipeline = pipeline or load_pipeline(data, params)
        record, decision = _judge(client, pipeline, name, chosen, holder, to, unseen_only)
        if dry_run:
            return record
        with registry_lock(address):
            aliases = aliases_of(client, name)
            _require_staging(name, to, chosen, aliases, model)
            if aliases.get(to) == holder and write_decision(client, record, decision, report):
                return record
            print(f"promote: version {aliases_of(client, name).get(to)} has become {to} "
                  "in the meantime; deciding again")
    return {"decision": HOLDS, "name": name, "version": chosen, "to": to}


@contextlib.contextmanager
def registry_lock(address: str) -> Iterator[None]:
    """Let one promotion at a time on this machine write to a registry.

    Raises
    ------
    MoascopeError
        Where another promotion does not end.
    """
    from filelock import FileLock, Timeout

    path = (Path(address.removeprefix("sqlite:///") + ".lock") if address.startswith("sqlite:///")
            else Path(tempfile.gettempdir()) / f"moascope-{_who()}-{digest(address)[:16]}.lock")
    try:
        with FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise MoascopeError(
            f"Another promotion has held {path} for {LOCK_SECONDS} s. Check whether a "
            "`moascope promote` is still running, then try again."
        ) from None


def _choose(client: MlflowClient, name: str, to: str, version: str | None, model: str) -> str:
    """The version to judge; `model` is the option that a remedy must repeat."""
    from mlflow.exceptions import MlflowException

    aliases = aliases_of(client, name)
    source = STAGING if to == PRODUCTION else CANDIDATE
    if version is None:
        if source not in aliases:
            raise MoascopeError(
                f"No version of '{name}' holds {STAGING}, and only the version in staging can be "
                "promoted to production. Run "
                f"`moascope promote{model}` first."
                if to == PRODUCTION else
                f"No version of '{name}' is the candidate. Run `dvc repro register report` to "
                "register one, or choose a version with --version."
            )
        return aliases[source]
    try:
        client.get_model_version(name, version)
    except MlflowException:
        known = sorted(int(found.version) for found in
                       client.search_model_versions(f"name = '{name}'"))
        raise MoascopeError(
            f"There is no version {version} of '{name}'. Its versions: {listing(known, 10)}."
        ) from None
    _require_staging(name, to, version, aliases, model)
    return version


def _require_staging(name: str, to: str, version: str, aliases: dict[str, str],
                     model: str) -> None:
    if to == PRODUCTION and aliases.get(STAGING) != version:
        held = aliases.get(STAGING)
        raise MoascopeError(
            f"Version {version} of '{name}' does not hold staging"
            + (f" (version {held} does)" if held else "")
            + f", and only the version in staging can be promoted to production. Run "
              f"`moascope promote{model} --version {version}` first."
        )


def _judge(
    client: MlflowClient, pipeline: Pipeline, name: str, chosen: str, holder: str | None, to: str,
    unseen_only: bool,
) -> tuple[dict[str, Any], Decision]:
    """Load both models from the registry, score them, and decide."""
    params = pipeline.params
    with tempfile.TemporaryDirectory(prefix="moascope-") as work:
        contenders = {"candidate": _load(client, name, chosen, Path(work) / "candidate")}
        if holder is not None:
            contenders[to] = _load(client, name, holder, Path(work) / "incumbent")
        for alias, contender in contenders.items():
            check_comparable(contender, pipeline.examples, alias)
        examples, left_out = unseen_hold_out(contenders, pipeline.examples, unseen_only)
        logits, origins = site_logits(contenders, pipeline, examples)
    candidate = contenders["candidate"]
    _, alone = answers({"candidate": candidate}, examples, logits)
    checked = check_served(candidate, alone["candidate"], pipeline.trained)
    examples, tables = answers(contenders, examples, logits)
    numbers, counts = measure(examples, tables, contenders.get(to), params.promote, params.seed,
                              pipeline.screen.annotations)
    decision = decide(numbers, params.promote)
    asked = asked_digest(examples.question.target, tables["candidate"])
    earlier = history(client, name)
    record = {
        "name": name,
        "version": chosen,
        "to": to,
        "decision": PROMOTED if decision.passed else REFUSED,
        "requirements": [dataclasses.asdict(line) for line in decision.requirements],
        "reasons": decision.failures,
        "numbers": dataclasses.asdict(numbers) | {"lift": numbers.lift},
        "held_out": counts | {
            "asked": asked,
            "asked_before": int(((earlier["asked"] == asked)
                                 & (earlier["decision"] != "interrupted")).sum()),
            "left_out_as_seen": left_out,
        },
        "incumbent": holder,
        "target": examples.question.target,
        "unit": examples.question.unit,
        "source": params.acquire.source,
        "features": origins,
        "says_what_train_wrote": checked,
        "gate": params.promote.model_dump(mode="json"),
        "seed": params.seed,
        "run_id": candidate.run_id,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": _who(),
        **{key.replace(".", "_"): value for key, value in git_state().items()},
    }
    return rounded(record), decision


def _load(client: MlflowClient, name: str, version: str, work: Path) -> Contender:
    run_id = client.get_model_version(name, version).run_id or ""
    work.mkdir()
    return Contender(version, run_id, read_model(fetch_model(f"models:/{name}/{version}", work)))


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "unknown"
