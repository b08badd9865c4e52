"""What a process may use: processors, by its affinity and its container's quota, and threads."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from moascope.errors import MoascopeError

PROCESSORS = "MOASCOPE_PROCESSORS"
"""Environment variable: how many processors to use, where that is less than there are."""

OBJECTS_BETWEEN_COLLECTIONS = 10_000
"""How many new objects Python's collector waits for, in place of 700."""

PROCESS = Path("/proc/self")
# Libraries that count the machine's processors themselves, and read no quota.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def usable_processors() -> int:
    """As many processors as this process may use at once, at least one.

    The smallest of its affinity (`taskset`, the cpuset of a container), `$MOASCOPE_PROCESSORS` and
    the quota of its container, rounded up.
    """
    affinity = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                else os.cpu_count() or 1)
    limit = processor_limit()
    return affinity if limit is None else min(affinity, limit)


def processor_limit() -> int | None:
    """How many processors are allowed, whatever the affinity says; None where nothing limits it.

    Raises
    ------
    MoascopeError
        Where `$MOASCOPE_PROCESSORS` is not a number of processors.
    """
    quota = processor_quota()
    limits = [] if quota is None else [max(1, math.ceil(quota))]
    told = os.environ.get(PROCESSORS)
    if told:
        if not told.isdecimal() or int(told) < 1:
            raise MoascopeError(f"{PROCESSORS} is '{told}', which is not a number of processors. "
                                "Set it to 1 or more, or unset it.")
        limits.append(int(told))
    return min(limits, default=None)


def processor_quota(process: Path = PROCESS) -> float | None:
    """How many processors' time the control groups of a process let it have.

    `docker run --cpus`, `limits.cpu` of Kubernetes and `CPUQuota` of systemd set it. Python counts
    the machine's processors whatever it is, and a program that runs as many threads as these is
    stopped for most of every tenth of a second.

    Parameters
    ----------
    process : Path
        Folder of the process below /proc.

    Returns
    -------
    float or None
        The least quota of its group and of the groups around it, of either version of control
        groups; None where no group has one or the system has none.
    """
    try:
        groups = (process / "cgroup").read_text().splitlines()
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:
        return None
    found = [quota for folder, top in _groups(groups, mounts) for quota in _quotas(folder, top)]
    return min(found, default=None)


def bound_threads() -> None:
    """Tell libraries in this process and those that it starts how many threads are allowed.

    What the environment says already stands. Without a limit, libraries count for themselves.
    """
    if processor_limit() is not None:
        for name in THREADS:
            os.environ.setdefault(name, str(usable_processors()))


def _groups(groups: list[str], mounts: list[str]) -> Iterator[tuple[Path, Path]]:
    """The folders of a process's groups that ration processors, each with its hierarchy's top."""
    for group in groups:
        _, controllers, place = group.split(":", 2)
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            root, top = before.split(" ")[3:5]
            kind, _, options = after.split(" ", 2)
            if (kind == "cgroup2" and not controllers) or (
                    kind == "cgroup" and "cpu" in controllers.split(",")
                    and "cpu" in options.split(",")):
                inside = PurePosixPath(place)
                # A container may see the hierarchy from its own group on.
                within = (inside.relative_to(root) if inside.is_relative_to(root)
                          and ".." not in inside.parts else PurePosixPath())
                yield Path(top) / within, Path(top)


def _quotas(folder: Path, top: Path) -> Iterator[float]:
    for group in (folder, *folder.parents):
        quota = _quota(group)
        if quota is not None:
            yield quota
        if group == top:
            return


def _quota(group: Path) -> float | None:
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            said = " ".join((group / file).read_text() for file in files).split()
            allowed, period = float(said[0]), float(said[1])
        except (OSError, ValueError, IndexError):
            # "max" is not a number: no limit.
            continue
        if allowed > 0 and period > 0:
            return allowed / period
    return None
