"""A plan as lines of at most 80 characters."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from moascope.planning.costs import Cost, Size
from moascope.planning.measuring import Measured
from moascope.text import counted

WIDTH = 80


def plan_lines(size: Size, measured: Measured, costs: Sequence[Cost], jobs: int,
               notes: Sequence[str] = ()) -> list[str]:
    """What a screen costs, stage by stage, and what of it was measured.

    Parameters
    ----------
    size : Size
    measured : Measured
    costs : sequence of Cost
    jobs : int
        Processors of this machine.
    notes : sequence of str
        Sentences to end with.
    """
    lines = textwrap.wrap(
        f"{counted(size.plates, 'plate')}, {counted(size.wells, 'well')}, "
        f"{counted(size.sites, 'site')}, {counted(size.planes, 'plane')} of {measured.width} x "
        f"{measured.height} pixels, {'' if size.stated else 'about '}{_bytes(size.bytes)}", WIDTH)
    lines += ["", f"{'stage':<10}{'core-hours':>12}{'by the clock':>15}{'memory':>12}{'disk':>12}"
                  "  rests on"]
    for cost in costs:
        lines.append(_row(cost.stage, cost.processor, cost.clock, cost.memory, cost.disk,
                          "measurement" if cost.measured else "known costs"))
    lines.append(_row("all", sum(cost.processor for cost in costs),
                      sum(cost.clock for cost in costs), max(cost.memory for cost in costs),
                      sum(cost.disk for cost in costs), "memory: peak"))
    said = [
        f"Measured on this machine: {counted(measured.sites, 'site')} "
        f"({counted(measured.planes, 'plane')}) in {measured.seconds:.0f} s: reading "
        f"{measured.rate / 1e6:,.0f} MB/s, checking and preparing {_milli(measured.read_site)} and "
        f"embedding {_milli(measured.embed_site)} a site.",
        f"Computed: by the clock on {counted(jobs, 'core')}, with nothing else running; memory and "
        "disk, from the sizes of crops, features and tables; all stages from split on, from "
        "simulated screens.",
        "GPU-hours: 0. No stage needs a GPU.", *notes]
    for sentence in said:
        lines += ["", *textwrap.wrap(sentence, WIDTH)]
    return lines


def _row(stage: str, processor: float, clock: float, memory: float, disk: float,
         basis: str) -> str:
    return (f"{stage:<10}{processor / 3600:>12.4f}{_time(clock):>15}{_bytes(memory):>12}"
            f"{_bytes(disk):>12}  {basis}")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB"


def _milli(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"
