"""Serve a registered model over HTTP until the process is told to stop."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import signal
import socket
import tempfile
from pathlib import Path

from moascope.errors import MoascopeError
from moascope.serving.logs import FIELDS, log_as_json
from moascope.serving.metrics import Metrics
from moascope.web.site import HOST, PATIENCE_S
from moascope.work.processors import usable_processors

SCREENS = "MOASCOPE_SCREENS"
BACKLOG = 2048
GRACE = 30
"""Seconds that requests under way have to be finished when the server is told to stop."""


def serve_model(address: str, host: str = HOST, port: int = 5000,
                screens: Path | None = None, workers: int | None = None) -> None:
    """Serve a model until SIGTERM or Ctrl-C; requests under way are finished first.

    Parameters
    ----------
    address : str
        `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<id>/model`, or a folder that
        MLflow's `download_artifacts` gave.
    host : str
    port : int
        0 takes any free one; the log says which.
    screens : Path, optional
        Folder of the screens that requests may name; `$MOASCOPE_SCREENS` by default.
    workers : int, optional
        Processes; by default one for each processor that may be used.

    Raises
    ------
    MoascopeError
        Where the model cannot be loaded or the port cannot be used.
    """
    if screens is not None:
        if not screens.is_dir():
            raise MoascopeError(f"{screens} is not a folder. Give the one that holds the screens.")
        os.environ[SCREENS] = str(screens.resolve())
    with tempfile.TemporaryDirectory(prefix="moascope-") as scratch:
        folder, said = _fetched(address, Path(scratch))
        listener = _listen(host, port)
        processors = usable_processors()
        asyncio.run(_serve(folder, said, listener, workers or processors, processors))


def _fetched(address: str, scratch: Path) -> tuple[Path, dict[str, str]]:
    """The model's folder, and its name and version."""
    from moascope.tracking.registry import fetch_logged, version_of

    if ":/" in address:
        folder, version = fetch_logged(address, scratch), version_of(address)
    else:
        folder, version = Path(address), ""
    if not (folder / "MLmodel").is_file():
        raise MoascopeError(f"{folder} is not a model as MLflow keeps it: it has no MLmodel. Give "
                            "models:/NAME@ALIAS, or a folder from `mlflow artifacts download`.")
    return folder, {"model": address, "version": version}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise MoascopeError(f"{host}:{port} cannot be used ({error}). Choose another with --host "
                            "and --port.") from None
    return listener


async def _serve(folder: Path, said: dict[str, str], listener: socket.socket, count: int,
                 processors: int) -> None:
    import uvicorn

    from moascope.serving.app import make_app
    from moascope.serving.workers import Workers
    from moascope.web.serving import patient_protocol

    log_as_json()
    log = logging.getLogger("moascope")
    metrics = Metrics(said)

    def restarted() -> None:
        metrics.restarts += 1
        log.error("A worker ended and is started again.")

    pool = Workers(str(folder), count, processors, restarted)
    try:
        await pool.start()
        # Only now: until it can answer, a server that is asked whether it is well refuses.
        listener.listen(BACKLOG)
        host, port = listener.getsockname()[:2]
        if not os.environ.get(SCREENS):
            log.warning(f"{SCREENS} is not set: requests that name images are refused.")
        log.info("serving", extra={FIELDS: said | {"host": host, "port": port, "workers": count}})
        server = uvicorn.Server(uvicorn.Config(
            make_app(pool, metrics, _mlflow_version()), loop="asyncio",
            http=patient_protocol(PATIENCE_S), ws="none", lifespan="off", interface="asgi3",
            proxy_headers=False, server_header=False, log_config=None, log_level="warning",
            backlog=BACKLOG, access_log=False, timeout_graceful_shutdown=GRACE))
        # Uvicorn sends a signal again once it has stopped, which would end the process unclean.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        await server.serve(sockets=[listener])
    finally:
        pool.stop()
        listener.close()
    log.info("stopped")


def _mlflow_version() -> str:
    try:
        return importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version("mlflow-skinny")
