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
from moascope.work.code import environment_digest
from moascope.work.digests import digest
from moascope.work.plates import update_plates
from moascope.work.processes import ahead
from moascope.work.ray import Witness, call_away


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


def join_what_is_carried(deaths: Path, plate: str, folder: Path, given: Path, weights: Path,
                         nothing: None) -> None:
    """Like the work of a stage; A is bad, C dies once, D always."""
    assert nothing is None and Path.cwd() not in (given.parent, weights.parent)
    assert [path.name for path in given.iterdir()] == [plate]
    fail_on("A", MoascopeError, plate, folder)
    if plate == "D" or (plate == "C" and not (deaths / "C").exists()):
        with (deaths / plate).open("a") as file:
            file.write(plate)
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "deep").mkdir()
    (folder / "deep/name.txt").write_text(
        weights.read_text() + (given / plate / "name.txt").read_text())


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


def test_a_machine_with_other_code_or_other_images_says_so_and_does_nothing(tmp_path, monkeypatch):
    here, image = environment_digest(), tmp_path / "a.tif"
    image.write_bytes(b"pixels")
    seen = Witness.of(image)
    monkeypatch.chdir(tmp_path.parent)
    assert call_away(here, str(tmp_path), seen, Path.cwd, ()) == tmp_path
    assert call_away(here, str(tmp_path / "none"), None, Path.cwd, ()) == tmp_path
    never = pytest.fail, ("it was called",)
    other = call_away("0" * 64, str(tmp_path), seen, *never)
    assert "has another version of moascope" in str(other)
    image.write_bytes(b"other pixels")
    for path in image, tmp_path / "none.tif":
        failed = call_away(here, str(tmp_path), seen._replace(path=str(path)), *never)
        assert f"does not see {path}, or another file there. Share" in str(failed)


def test_an_array_is_seen_where_its_folder_is(tmp_path):
    seen = Witness.of(tmp_path)
    (tmp_path / "zarr.json").write_text("{}")
    assert seen.is_seen() and not seen._replace(path=str(tmp_path / "none")).is_seen()


def test_the_digest_of_the_environment_changes_with_a_file_and_with_a_library(monkeypatch):
    found = {environment_digest()}
    for target in "hashlib.file_digest", "_version":
        environment_digest.cache_clear()
        with monkeypatch.context() as patched:
            patched.setattr(f"moascope.work.code.{target}", lambda *arguments: Fixed())
            found.add(environment_digest())
    environment_digest.cache_clear()
    assert len(found) == 3


class Fixed:
    """What a digest or a version may be."""

    def hexdigest(self) -> str:
        return "0" * 64

    def __repr__(self) -> str:
        return "0.0"


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
def test_ray_makes_plates_of_what_they_carry_and_reports_bad_ones_alike(
        tmp_path, monkeypatch, cluster):
    monkeypatch.setenv("MOASCOPE_RAY", cluster)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("moascope.work.ray.STARTS", 2)
    (tmp_path / "weights.txt").write_text("of ")
    (tmp_path / "deaths").mkdir()
    for plate in "ABCD":
        (tmp_path / "given" / plate).mkdir(parents=True)
        (tmp_path / "given" / plate / "name.txt").write_text(plate)
    carried = Path("given"), Path("weights.txt"), None
    with pytest.raises(MoascopeError) as caught:
        update_plates(Path("out"), dict.fromkeys("ABCD", "1"),
                      partial(join_what_is_carried, tmp_path / "deaths"), 1, "naming", carried)
    assert "plate A is bad" in str(caught.value)
    assert "ended from outside" in str(caught.value)
    # C is started anew when its process has ended, and D as often as any plate.
    assert {path.name: path.read_text() for path in (tmp_path / "deaths").iterdir()} == {
        "C": "C", "D": "DD"}
    assert plates_in(tmp_path / "out") == ["B", "C"]
    assert (tmp_path / "out/B/deep/name.txt").read_text() == "of B"
    assert (tmp_path / "out/C/deep/name.txt").read_text() == "of C"


def test_half_a_file_of_a_call_that_was_killed_is_removed(tmp_path):
    update_plates(tmp_path, {"A": "1"}, write_name, 1, "test")
    (tmp_path / ".features.json.partial").write_text("{")
    (tmp_path / "features.json").write_text("{}")
    update_plates(tmp_path, {"A": "1"}, write_name, 1, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A", "features.json"]
