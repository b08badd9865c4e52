"""Promotion: the registry's side of the gate. A winner gets the alias, a loser changes no alias.

MLflow is the source of truth for many machines: every decision is a run in the experiment
"<name> promotions". `reports/promote/history.csv` is a copy of that history which is only added to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moascope.errors import MoascopeError
from moascope.learning.predictor import load_predictor
from moascope.params import Params
from moascope.promotion.gate import Decision, decide
from moascope.promotion.held_out import (
    Contender,
    Pipeline,
    answers,
    asked_digest,
    check_comparable,
    check_served,
    load_pipeline,
    measure,
    site_logits,
    unseen_hold_out,
)
from moascope.text import counted, listing
from moascope.tracking.registry import CANDIDATE, describe_version, fetch_model
from moascope.tracking.runs import (
    connect,
    git_state,
    open_experiment,
    require_store,
    store_shown,
)
from moascope.work.digests import digest
from moascope.work.files import rounded, write_csv, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

STAGING, PRODUCTION = "staging", "production"
PROMOTED, REFUSED, HOLDS = "promoted", "refused", "holds"
# A promotion writes for a second or two; who waits for longer waits for something broken.
LOCK_SECONDS = 300
DIGITS = 6
COLUMNS = [
    "when", "to", "version", "decision", "average_precision", "prevalence", "p", "incumbent",
    "incumbent_average_precision", "difference", "worse", "compounds", "asked", "reasons", "who",
    "git_commit", "model_run", "promotion_run",
]


def promote(
    params: Params, data: Path, report: Path, to: str = STAGING, name: str | None = None,
    version: str | None = None, unseen_only: bool = False, dry_run: bool = False,
) -> dict[str, Any]:
    """Ask a candidate and the incumbent about the held-out compounds, and move the alias or not.

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
        Of the registered model; `register.name` where it is not given.
    version : str, optional
        Of the candidate; where it is not given, what holds `candidate`, and for production what
        holds `staging`.
    unseen_only : bool
        Ask about those held-out compounds alone that neither model was trained on.
    dry_run : bool
        Write nothing anywhere.

    Returns
    -------
    dict
        The record as in promotion.json. `decision` is "promoted" or "refused" (in a dry run: what
        it would be), or "holds" where the version holds the alias already.

    Raises
    ------
    MoascopeError
        Where nothing can be decided: no such model, no incumbent's compounds to compare on, a
        registry's model that differs from the trained one, ...

    Notes
    -----
    Scoring takes no lock. Right before writing, under a lock of this machine, the holder is read
    again; where it has changed, the candidate is asked again, against the new holder. Machines
    that share a server do not share the lock: for them the holder is read once more between the
    records and the alias. What is left is the time of two calls, in which the later one wins.
    """
    name = name or params.register_.name
    address = connect()
    require_store(address)
    from mlflow import MlflowClient

    client = MlflowClient()
    chosen = _choose(client, name, to, version)
    pipeline = None
    while (holder := aliases_of(client, name).get(to)) != chosen:
        pipeline = pipeline or load_pipeline(data, params)
        record, decision = _judge(client, pipeline, name, chosen, holder, to, unseen_only)
        if dry_run:
            return record
        with registry_lock(address):
            aliases = aliases_of(client, name)
            _require_staging(name, to, chosen, aliases)
            if aliases.get(to) == holder and _write(client, record, decision, report):
                return record
            print(f"promote: version {aliases_of(client, name).get(to)} has become {to} "
                  "meanwhile; asking again")
    return {"decision": HOLDS, "name": name, "version": chosen, "to": to}


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias -> version of a registered model.

    Raises
    ------
    MoascopeError
        Where there is no such model, or the registry does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        where = store_shown()
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MoascopeError(
                f"There is no registered model '{name}' at {where}. Run `dvc repro` to register "
                "one, or name another by --model."
            ) from None
        raise MoascopeError(
            f"The registry at {where} does not answer: {str(error).splitlines()[0]}"
        ) from None
    return {alias: str(version) for alias, version in found.aliases.items()}


def history(client: MlflowClient, name: str) -> pd.DataFrame:
    """Every decision about a registered model, oldest first, as the registry knows them.

    Parameters
    ----------
    client : MlflowClient
    name : str
        Of the registered model.

    Returns
    -------
    DataFrame
        All text, columns `COLUMNS`. A decision that was cut short while it was written, or
        overtaken by another machine's, has the decision "interrupted".
    """
    experiment = client.get_experiment_by_name(promotions_of(name))
    rows: list[dict[str, str]] = []
    token = ""
    while experiment is not None and token is not None:
        page = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"],
                                  max_results=1000, page_token=token or None)
        for run in page:
            said = {**run.data.tags, "promotion_run": run.info.run_id}
            said |= {key: _text(value) for key, value in run.data.metrics.items()}
            if run.info.status != "FINISHED":
                said["decision"] = "interrupted"
            rows.append({column: said.get(column, "") for column in COLUMNS})
        token = page.token
    return pd.DataFrame(rows, columns=COLUMNS, dtype="str")


def promotions_of(name: str) -> str:
    """The experiment that keeps the decisions about a registered model."""
    return f"{name} promotions"


@contextlib.contextmanager
def registry_lock(address: str) -> Iterator[None]:
    """Let one promotion at a time of this machine write to a registry.

    Raises
    ------
    MoascopeError
        Where another one does not end.
    """
    from filelock import FileLock, Timeout

    path = (Path(address.removeprefix("sqlite:///") + ".lock") if address.startswith("sqlite:///")
            else Path(tempfile.gettempdir()) / f"moascope-{_who()}-{digest(address)[:16]}.lock")
    try:
        with FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise MoascopeError(
            f"Another promotion has held {path} for {LOCK_SECONDS} s. See whether a `moascope "
            "promote` still runs, and try again."
        ) from None


def _choose(client: MlflowClient, name: str, to: str, version: str | None) -> str:
    from mlflow.exceptions import MlflowException

    aliases = aliases_of(client, name)
    source = STAGING if to == PRODUCTION else CANDIDATE
    if version is None:
        if source not in aliases:
            raise MoascopeError(
                f"No version of '{name}' holds {STAGING}, and production takes what staging has "
                "tried. Run `moascope promote` first."
                if to == PRODUCTION else
                f"No version of '{name}' is the candidate. Run `dvc repro` to register one, or "
                "name one by --version."
            )
        return aliases[source]
    try:
        client.get_model_version(name, version)
    except MlflowException:
        known = sorted(int(found.version) for found in
                       client.search_model_versions(f"name = '{name}'"))
        raise MoascopeError(
            f"There is no version {version} of '{name}'. It has {listing(known, 10)}."
        ) from None
    _require_staging(name, to, version, aliases)
    return version


def _require_staging(name: str, to: str, version: str, aliases: dict[str, str]) -> None:
    if to == PRODUCTION and aliases.get(STAGING) != version:
        held = aliases.get(STAGING)
        raise MoascopeError(
            f"Version {version} of '{name}' does not hold staging"
            + (f" (version {held} does)" if held else "")
            + f", and production takes what staging has tried. Run `moascope promote --version "
              f"{version}` first."
        )


def _judge(
    client: MlflowClient, pipeline: Pipeline, name: str, chosen: str, holder: str | None, to: str,
    unseen_only: bool,
) -> tuple[dict[str, Any], Decision]:
    """Load both models back from the registry, ask them, and decide."""
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
    numbers, counts = measure(examples, tables, contenders.get(to), params.promote, params.seed)
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
    return Contender(version, run_id, load_predictor(fetch_model(f"models:/{name}/{version}",
                                                                 work)))


def _write(client: MlflowClient, record: dict[str, Any], decision: Decision,
           report: Path) -> bool:
    """Record a decision everywhere, and move the alias of a winner.

    The decision's run stays open until the alias has moved, so that one that was cut short is
    seen to be.

    Returns
    -------
    bool
        False where the holder has changed in between, and nothing was moved.
    """
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    name, version, to = record["name"], record["version"], record["to"]
    numbers, against = record["numbers"], record["numbers"]["incumbent"] or {}
    verb = "->" if decision.passed else "refused for"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    experiment = open_experiment(client, promotions_of(name))
    run = client.create_run(experiment.experiment_id, run_name=f"version {version} {verb} {to}")
    own = run.info.run_id
    now = int(time.time() * 1000)
    metrics = {
        "average_precision": numbers["average_precision"], "prevalence": numbers["prevalence"],
        "lift": numbers["lift"], "p": numbers["p"],
        "incumbent_average_precision": against.get("average_precision"),
        "difference": against.get("difference"), "worse": against.get("worse"),
        **{f"baseline.{key}": value for key, value in numbers["baselines"].items()},
    }
    tags = {
        "decision": record["decision"], "to": to, "version": version, "when": record["when"],
        "who": record["who"], "incumbent": record["incumbent"] or "none",
        "reasons": " ".join(record["reasons"]), "asked": record["held_out"]["asked"],
        "compounds": str(record["held_out"]["compounds"]), "model_run": record["run_id"],
        "git_commit": record.get("git_commit", ""), "target": record["target"],
        "mlflow.user": record["who"], "mlflow.note.content": note(record),
    }
    client.log_batch(
        own, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()
                      if value is not None],
        tags=[RunTag(key, value) for key, value in tags.items()],
    )
    client.log_dict(own, record, "promotion.json")
    said = {
        "decision": record["decision"], "when": record["when"], "who": record["who"],
        "average_precision": f"{numbers['average_precision']:.4f}",
        "incumbent": record["incumbent"] or "none",
        "reasons": " ".join(record["reasons"]) or "Every requirement is met.",
        "git_commit": record.get("git_commit", "unknown"), "promotion_run": own,
    }
    for key, value in said.items():
        client.set_model_version_tag(name, version, f"promotion.{to}.{key}", value)
    if decision.passed:
        if aliases_of(client, name).get(to) != record["incumbent"]:
            client.set_terminated(own, "KILLED")
            return False
        client.set_registered_model_alias(name, to, version)
        if record["incumbent"]:
            client.set_model_version_tag(name, record["incumbent"], f"promotion.{to}.replaced_by",
                                         version)
    client.set_terminated(own, "FINISHED")
    # The run that trained the model may have been deleted since; the decision stands without it.
    with contextlib.suppress(MlflowException):
        client.set_tag(record["run_id"], f"promotion.{to}", f"{record['decision']}: version "
                                                            f"{version}, {record['when']}")
        client.log_dict(record["run_id"], record, f"promotion/{to}.json")
    write_json(report / "promotion.json", record)
    _append_history(report / "history.csv", history(client, name), name)
    for one in {version, record["incumbent"] or version}:
        describe_version(name, one)
    return True


def note(record: dict[str, Any]) -> str:
    """A decision in Markdown, for MLflow's page of it."""
    rows = "".join(
        f"\n| {line['name']} | {_shown(line['measured'])} | {line['sign']} "
        f"{_shown(line['limit'])} | {'yes' if line['passed'] else '**no**'} |"
        for line in record["requirements"]
    )
    return (f"{sentence(record)}\n\n"
            f"| requirement | measured | limit | met |\n|---|---|---|---|{rows}")


def sentence(record: dict[str, Any]) -> str:
    """A decision in one sentence."""
    name, version, to = record["name"], record["version"], record["to"]
    if record["decision"] == HOLDS:
        return f"Version {version} of '{name}' holds {to} already; nothing is changed."
    held, numbers = record["held_out"], record["numbers"]
    incumbent = record["incumbent"]
    ended = {
        PROMOTED: f"Version {version} of '{name}' is {to} now"
                  + (f" in place of version {incumbent}" if incumbent else ", the first to be"),
        REFUSED: f"Version {version} of '{name}' is not promoted to {to}"
                 + (f", which version {incumbent} keeps" if incumbent else ""),
    }[record["decision"]]
    return (f"{ended}: average precision {numbers['average_precision']:.3f} at a prevalence of "
            f"{numbers['prevalence']:.3f} over "
            f"{counted(held['compounds'], 'held-out ' + record['unit'])}.")


def _append_history(path: Path, known: pd.DataFrame, name: str) -> None:
    """Add what the registry knows and the file does not; rows of other registries stay."""
    known = known.assign(model=name)
    if path.exists():
        before = pd.read_csv(path, dtype="str", keep_default_na=False)
        elsewhere = ~before["promotion_run"].isin(known["promotion_run"])
        known = pd.concat([before[elsewhere], known], ignore_index=True)
    known = known.sort_values("when", kind="stable")[["model", *COLUMNS]]
    write_csv(path, known)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _text(value: float) -> str:
    return f"{value:.6g}"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return "unknown"
