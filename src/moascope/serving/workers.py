"""The processes that hold a model: each answers one request at a time."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from moascope.serving.worker import Answer, answer, load
from moascope.work.processes import start_worker

# Seconds until a worker that could not be replaced is tried again.
RETRY = 5.0


class Ended(Exception):
    """The process that was answering ended before it had."""


class Workers:
    """A model in several processes.

    Parameters
    ----------
    folder : str
        The model as MLflow keeps it.
    count : int
        Processes; each uses its share of `processors`.
    processors : int
    on_restart : callable
        Called when a process has ended and another takes its place.
    """

    def __init__(self, folder: str, count: int, processors: int,
                 on_restart: Callable[[], None]):
        self._load = (folder, max(processors // count, 1))
        self._on_restart = on_restart
        self._free: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        self._all: set[ProcessPoolExecutor] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._count = count

    @property
    def alive(self) -> int:
        """How many processes hold the model."""
        return len(self._all)

    async def start(self) -> None:
        """Return when every process has loaded the model.

        Raises
        ------
        Exception
            What loading raised.
        """
        await asyncio.gather(*(self._begin() for _ in range(self._count)))

    async def answer(self, body: bytes, content_type: str, request: str) -> Answer:
        """Answer a request in the next process that is free.

        Raises
        ------
        Ended
        """
        worker = await self._free.get()
        try:
            given = await asyncio.get_running_loop().run_in_executor(
                worker, answer, body, content_type, request)
        except BrokenProcessPool:
            self._all.discard(worker)
            self._on_restart()
            task = asyncio.create_task(self._replace())
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)
            raise Ended from None
        except BaseException:
            # Whoever asked has gone; the process has not.
            self._free.put_nowait(worker)
            raise
        self._free.put_nowait(worker)
        return given

    def stop(self) -> None:
        """End all processes."""
        for worker in self._all:
            worker.shutdown(wait=False, cancel_futures=True)

    async def _begin(self) -> None:
        # One pool a process: one that ends takes no waiting request of the others with it.
        worker = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker)
        try:
            await asyncio.get_running_loop().run_in_executor(worker, load, *self._load)
        except BaseException:
            worker.shutdown(wait=False)
            raise
        self._all.add(worker)
        self._free.put_nowait(worker)

    async def _replace(self) -> None:
        while True:
            try:
                await self._begin()
                return
            except Exception:
                logging.getLogger("moascope").exception("A worker could not be started again.")
                await asyncio.sleep(RETRY)
