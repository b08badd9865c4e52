"""Ask a served model over HTTP: one site at a time, and many at once.

    python benchmarks/serving.py [--repository FOLDER] [--model ADDRESS] [--workers N] [--mlflow]

FOLDER is a clone in which the pipeline has run; by default this one. Its registered model is
served by `moascope serve`, or by `mlflow models serve`. A request is one site and one of a control
of its plate. Answers to many requests at once must be those to the same requests one after the
other.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from moascope.work.processes import default_jobs

ROOT = Path(__file__).resolve().parents[1]
MOST_WAIT = 180
LEVEL = "site"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=ROOT)
    parser.add_argument("--model", default="models:/moascope@candidate")
    parser.add_argument("--screen", default="data/acquire", help="below the repository")
    parser.add_argument("--workers", type=int, default=default_jobs(),
                        help="processes of the server")
    parser.add_argument("--mlflow", action="store_true", help="MLflow's own server")
    parser.add_argument("--requests", type=int, default=50, help="at once")
    settings = parser.parse_args()
    screen = settings.repository / settings.screen
    requests = [body(rows, screen.name) for rows in examples(screen, settings.requests)]
    load = os.getloadavg()[0]
    with server(settings.repository, settings.model, screen.parent, settings.workers,
                settings.mlflow) as (address, start):
        first = timed(address, requests[0])[0]
        for request in requests[:2 * settings.workers]:
            timed(address, request)
        alone = [timed(address, request) for request in requests]
        together = at_once(address, requests)
    wrong = [number for number, (one, other) in enumerate(zip(alone, together, strict=True))
             if not alike(one[1], other[1])]
    one, many = sorted(took for took, _ in alone), sorted(took for took, _ in together)
    print(f"{settings.requests} requests of one site and a control, {settings.workers} "
          f"process{'es' if settings.workers > 1 else ''} of "
          f"{'MLflow' if settings.mlflow else 'moascope'}'s server, {os.cpu_count()} cores, load "
          f"{load:.1f} before, priority {os.nice(0)}\n\n"
          "| what | median, s | p95, s | longest, s |\n|---|---|---|---|")
    print(f"| the server starts | {start:.1f} | | |\n| the first request | {first:.2f} | | |")
    for name, took in ("one after the other", one), (f"{settings.requests} at once", many):
        print(f"| {name} | {median(took):.3f} | {percentile(took):.3f} | {took[-1]:.3f} |")
    print(f"\n{len(wrong)} answers of those at once differ from those one after the other.")
    sys.exit(bool(wrong))


def examples(screen: Path, count: int) -> list[pd.DataFrame]:
    """Rows of so many requests: a site of a compound's well, and one of a control of its plate."""
    layout = pd.read_csv(screen / "layout.csv", keep_default_na=False)
    sites = pd.read_csv(screen / "load_data.csv", keep_default_na=False).merge(
        layout, on=["Metadata_Plate", "Metadata_Well"])
    controls = sites[sites["Metadata_Control"] == "negative"].groupby("Metadata_Plate").first()
    treated = sites[sites["Metadata_Control"] == ""]
    chosen = treated.iloc[:: max(len(treated) // count, 1)].head(count)
    return [pd.concat([treated.loc[[index]],
                       controls.loc[[plate]].reset_index()[treated.columns]])
            for index, plate in chosen["Metadata_Plate"].items()]


def body(rows: pd.DataFrame, screen: str) -> bytes:
    split = json.loads(rows.to_json(orient="split", index=False))
    return json.dumps({"dataframe_split": split,
                       "params": {"screen": screen, "level": LEVEL}}).encode()


@contextlib.contextmanager
def server(repository: Path, model: str, screens: Path, workers: int,
           mlflow: bool) -> Iterator[tuple[str, float]]:
    """Yields the address of a server of the model and how long it took to start, in seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # MLflow's server runs the code that is stored with the model.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or not mlflow}
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*(["mlflow", "models", "serve", "-m", model, "--env-manager", "local"] if mlflow else
               ["moascope", "serve", model]), "--port", str(port), "--workers", str(workers)],
            cwd=repository, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
            env=kept | {"PATH": path, "MOASCOPE_SCREENS": str(screens.resolve()),
                        "MLFLOW_TRACKING_URI": f"sqlite:///{repository.resolve()}/mlflow.db"})
        try:
            while not _answers(f"http://127.0.0.1:{port}/ping"):
                if process.poll() is not None or time.perf_counter() - begin > MOST_WAIT:
                    log.seek(0)
                    sys.exit(f"The server did not start:\n{log.read()}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/invocations", time.perf_counter() - begin
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def timed(address: str, request: bytes) -> tuple[float, list[dict[str, Any]]]:
    """Seconds until the answer, and its predictions."""
    asked = urllib.request.Request(address, request, {"Content-Type": "application/json"})
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(asked, timeout=MOST_WAIT) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"The server answers {error.code}: {error.read().decode()}")
    return time.perf_counter() - start, json.loads(content)["predictions"]


def at_once(address: str, requests: list[bytes]) -> list[tuple[float, list[dict[str, Any]]]]:
    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: timed(address, request), requests))


def alike(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(
            math.isclose(a[key], b[key], abs_tol=1e-6) if key.startswith("P_")
            else repr(a[key]) == repr(b[key]) for key in a)
        for a, b in zip(one, other, strict=True))


def percentile(ordered: list[float]) -> float:
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


if __name__ == "__main__":
    main()
