"""Incremental, parallel work plate by plate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from moascope.errors import MoascopeError
from moascope.params import Prepare
from moascope.work.digests import digest
from moascope.work.plates import update_plates
from moascope.work.processes import ahead
from moascope.work.ray import call_in_folder


def write_name(plate: str, folder: Path) -> None:
    (folder / "name.txt").write_text(plate)


def fail_on(bad: str, error: type[Exception], plate: str, folder: Path) -> None:
    write_name(plate, folder)
    if plate == bad:
        raise error(f"plate {plate} is bad")


def die_on(bad: str, plate: str, folder: Path) -> None:
    if plate == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    write_name(plate, folder)


def fail_on_a_die_on_d(plate: str, folder: Path) -> None:
    fail_on("A", MoascopeError, plate, folder)
    die_on("D", plate, folder)


def plates_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_only_changed_plates_are_made_again_and_old_ones_go(tmp_path, jobs):
    keys = {"A": "1", "B": "1", "C": "1"}
    assert update_plates(tmp_path / "o", keys, write_name, jobs, "naming") == (3, 0)
    before = (tmp_path / "o/A/name.txt").stat().st_mtime_ns
    keys = {"A": "1", "B": "2", "D": "1"}
    assert update_plates(tmp_path / "o", keys, write_name, jobs, "naming") == (2, 1)
    assert plates_in(tmp_path / "o") == ["A", "B", "D"]
    assert (tmp_path / "o/A/name.txt").stat().st_mtime_ns == before
    assert (tmp_path / "o/B/key.txt").read_text().strip() == "2"
    assert update_plates(tmp_path / "o", keys, write_name, jobs, "naming") == (0, 3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_plate_does_not_cost_the_others(tmp_path, jobs):
    keys = dict.fromkeys("ABC", "1")
    with pytest.raises(MoascopeError, match="plate A is bad"):
        update_plates(tmp_path, keys, partial(fail_on, "A", MoascopeError), jobs, "naming")
    assert plates_in(tmp_path) == ["B", "C"]
    assert update_plates(tmp_path, keys, write_name, jobs, "naming") == (1, 2)


def test_a_defect_is_raised_as_it_is_and_names_the_plate(tmp_path):
    with pytest.raises(ZeroDivisionError) as caught:
        update_plates(tmp_path, {"A": "1"}, partial(fail_on, "A", ZeroDivisionError), 1, "naming")
    assert "plate A" in "".join(caught.value.__notes__)


def test_a_worker_that_is_killed_ends_in_a_sentence_and_the_next_call_goes_on(tmp_path):
    keys = dict.fromkeys("ABCD", "1")
    with pytest.raises(MoascopeError, match="ended from outside"):
        update_plates(tmp_path, keys, partial(die_on, "B"), 2, "naming")
    assert not (tmp_path / "B").exists()
    done, kept = update_plates(tmp_path, keys, write_name, 2, "naming")
    assert done + kept == 4
    assert plates_in(tmp_path) == list("ABCD")


def test_what_a_killed_run_left_half_done_is_not_taken_for_done(tmp_path):
    (tmp_path / ".partial-A").mkdir()
    (tmp_path / ".partial-A/name.txt").write_text("half")
    (tmp_path / "B").mkdir()
    assert update_plates(tmp_path, dict.fromkeys("AB", "1"), write_name, 1, "naming") == (2, 0)
    assert plates_in(tmp_path) == ["A", "B"]


def test_workers_end_when_the_main_process_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from moascope.work.plates import update_plates\n"
        "def work(plate, folder):\n"
        "    (Path(__file__).parent / f'{plate}.pid').write_text(str(os.getpid()))\n"
        "    time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    update_plates(Path(__file__).parent / 'out', {'A': '1', 'B': '1'}, work, 2, 'x')\n"
    )
    main = subprocess.Popen([sys.executable, str(script)])
    pids = [tmp_path / "A.pid", tmp_path / "B.pid"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in pids))
    workers = [int(path.read_text()) for path in pids]
    main.kill()
    main.wait()
    wait_until(lambda: not any(alive(worker) for worker in workers))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_digest_depends_on_values_and_not_on_their_order_in_a_dictionary():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(Prepare(crop=64)) == digest(Prepare(crop=64)) != digest(Prepare(crop=96))
    table = pd.DataFrame({"a": [1, 2]})
    assert digest(table) == digest(table.copy()) != digest(table.iloc[::-1])


def test_results_ahead_keep_their_order_and_are_few():
    begun = []

    def slower_first(item):
        begun.append(item)
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item

    results = ahead(slower_first, list(range(30)), 3)
    assert next(results) == 0
    assert len(begun) <= 5  # what three threads hold, and one ready for each end of the queue
    assert list(results) == list(range(1, 30))


def test_a_failure_ahead_is_raised_at_its_place():
    def all_but_two(item):
        if item == 2:
            raise MoascopeError("two")
        return item

    results = ahead(all_but_two, range(9), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(MoascopeError, match="two"):
        next(results)


def test_a_machine_that_sees_other_files_says_so_and_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    mark.touch()
    assert call_in_folder(str(tmp_path), str(mark), Path.cwd, ()) == tmp_path
    for folder, file in (tmp_path / "none", mark), (tmp_path, tmp_path / "none"):
        failed = call_in_folder(str(folder), str(file), pytest.fail, ("it was called",))
        assert f"does not see {tmp_path / 'none'}. Give every machine" in str(failed)


def test_without_ray_the_remedy_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("MOASCOPE_RAY", "local")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MoascopeError, match=r"pip install 'moascope\[ray\]'"):
        update_plates(tmp_path, {"A": "1"}, write_name, 1, "naming")


@pytest.fixture
def cluster(monkeypatch):
    """The address of a Ray cluster: every call that starts one of its own takes ten seconds."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'moascope[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster(initialize_head=True,
                      head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield started.address
    started.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_ray_makes_the_same_plates_and_reports_bad_ones_alike(tmp_path, monkeypatch, cluster):
    monkeypatch.setenv("MOASCOPE_RAY", cluster)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MoascopeError) as caught:
        update_plates(Path("out"), dict.fromkeys("ABCD", "1"), fail_on_a_die_on_d, 1, "naming")
    assert "plate A is bad" in str(caught.value)
    assert "ended from outside" in str(caught.value)
    assert plates_in(tmp_path / "out") == [".partial-D", "B", "C"]
    assert update_plates(Path("out"), dict.fromkeys("ABD", "1"), write_name, 1, "naming") == (2, 1)
    assert plates_in(tmp_path / "out") == ["A", "B", "D"]
    assert (tmp_path / "out/A/name.txt").read_text() == "A"


def test_half_a_file_of_a_call_that_was_killed_is_removed(tmp_path):
    update_plates(tmp_path, {"A": "1"}, write_name, 1, "test")
    (tmp_path / ".features.json.partial").write_text("{")
    (tmp_path / "features.json").write_text("{}")
    update_plates(tmp_path, {"A": "1"}, write_name, 1, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A", "features.json"]
