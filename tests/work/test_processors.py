"""A container's quota of processors is seen, wherever the system keeps it."""

import os
from pathlib import Path

import pytest

from moascope.errors import MoascopeError
from moascope.work import processors
from moascope.work.processes import default_jobs
from moascope.work.processors import bound_threads, processor_quota

V2 = "30 25 0:26 {root} {top} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 25 0:27 {root} {top} rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
SETS = "32 25 0:28 / {top}/sets rw - cgroup cgroup rw,cpuset\n"


@pytest.fixture
def process(tmp_path):
    """A process below /proc, with control groups that are said in words."""
    def make(groups: str, mounts: str, root: str = "/", **files: str) -> Path:
        for name, content in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        folder = tmp_path / "self"
        folder.mkdir()
        (folder / "cgroup").write_text(groups)
        (folder / "mountinfo").write_text(
            "22 1 254:0 / / rw - ext4 /dev/root rw\n"
            + mounts.format(root=root, top=tmp_path / "groups"))
        return folder
    return make


def test_the_quota_of_a_container_with_groups_of_its_own_is_its_root(process):
    assert processor_quota(process("0::/\n", V2, **{"cpu.max": "150000 100000\n"})) == 1.5


def test_a_quota_of_a_group_around_the_own_one_counts(process):
    folder = process("0::/lab.slice/run.scope\n", V2, **{
        "lab.slice/cpu.max": "200000 100000\n", "lab.slice/run.scope/cpu.max": "max 100000\n"})
    assert processor_quota(folder) == 2


def test_the_least_of_several_quotas_holds(process):
    folder = process("0::/lab.slice/run.scope\n", V2, **{
        "lab.slice/cpu.max": "200000 100000\n",
        "lab.slice/run.scope/cpu.max": "400000 100000\n"})
    assert processor_quota(folder) == 2


def test_version_one_keeps_quota_and_period_in_two_files(process):
    folder = process("5:cpu,cpuacct:/docker/ab12\n4:cpuset:/docker/ab12\n", V1 + SETS,
                     root="/docker/ab12",
                     **{"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n",
                        "sets/cpu.max": "100 100000\n"})
    assert processor_quota(folder) == 0.5


@pytest.mark.parametrize("files", [
    {"cpu.max": "max 100000\n"}, {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"},
    {"cpu.max": ""}, {}])
def test_a_group_without_a_quota_limits_nothing(process, files):
    assert processor_quota(process("1:cpu:/\n0::/\n", V1 + V2, **files)) is None


def test_a_system_without_control_groups_limits_nothing(tmp_path):
    assert processor_quota(tmp_path) is None


@pytest.fixture
def machine(monkeypatch):
    """Eight processors, a quota, and an environment that says nothing of threads but for one."""
    def make(quota: float | None) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
        monkeypatch.setattr(processors, "processor_quota", lambda: quota)
        for name in processors.THREADS:
            # So that what the test sets is taken back.
            monkeypatch.setenv(name, "9")
            monkeypatch.delenv(name)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        monkeypatch.delenv("MOASCOPE_PROCESSORS", raising=False)
    return make


@pytest.mark.parametrize(("quota", "jobs"), [(None, 8), (0.5, 1), (1.5, 2), (64.0, 8)])
def test_processes_and_threads_are_as_many_as_the_quota_allows(machine, quota, jobs):
    machine(quota)
    bound_threads()
    assert default_jobs() == jobs
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert os.environ.get("TF_NUM_INTRAOP_THREADS") == (None if quota is None else str(jobs))


@pytest.mark.parametrize(("told", "jobs"), [("1", 1), ("3", 2), ("", 2)])
def test_a_number_in_the_environment_only_lowers_what_is_used(machine, monkeypatch, told, jobs):
    machine(2.0)
    monkeypatch.setenv("MOASCOPE_PROCESSORS", told)
    assert default_jobs() == jobs


@pytest.mark.parametrize("told", ["0", "-1", "two", "1.5"])
def test_what_is_no_number_of_processors_is_a_sentence(machine, monkeypatch, told):
    machine(None)
    monkeypatch.setenv("MOASCOPE_PROCESSORS", told)
    with pytest.raises(MoascopeError, match="is not a number of processors"):
        default_jobs()
