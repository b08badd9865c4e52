"""Workers of one study: real processes, a real journal and a real PostgreSQL, no TensorFlow."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from moascope.cli.study import work
from moascope.errors import MoascopeError
from moascope.learning import workers
from moascope.learning.storage import open_study, study_storage
from moascope.learning.workers import run_trials
from moascope.params import Tune
from moascope.params_file import parse_params
from moascope.passwords import address_shown
from moascope.work.identity import this_process

WORKER = """
import sys, time
from moascope.learning.storage import open_study
from moascope.learning.workers import run_trials

storage, (target, seconds, lease) = sys.argv[1], map(float, sys.argv[2:])

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    print("began", trial.number, flush=True)
    time.sleep(seconds)
    return x

print("ran", run_trials(open_study(storage, "s"), objective, target, lease=lease))
"""


def start(storage, target, seconds=0.05, lease=60.0):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, storage, str(target), str(seconds), str(lease)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return int(out.split()[-1])


def states(study):
    return [trial.state for trial in study.get_trials(deepcopy=False)]


@pytest.fixture(scope="module")
def postgresql(request):
    """The address of a server from Debian's packages, on a free port of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="the package psycopg is not installed")
    # The server refuses to be run by root, and wants a folder of its own that it can reach.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="moascope-"))
    request.addfinalizer(lambda: shutil.rmtree(folder))
    if user:
        shutil.chown(folder, user)
    data, secret = folder / "data", folder / "password"
    secret.write_text("se:cret@word")
    secret.chmod(0o644)

    def call(program, *arguments):
        done = subprocess.run([found[-1] / program, *arguments], user=user, cwd=folder,
                              env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                              capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call("initdb", "-D", data, "-U", "moascope", "--pwfile", secret, "-A", "scram-sha-256",
         "-E", "UTF8",
         "--no-sync")
    call("pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o",
         f"-h 127.0.0.1 -p {port} -k {folder} -F", "start")
    yield f"postgresql://moascope:se%3Acret%40word@127.0.0.1:{port}/postgres"
    call("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=["journal", "postgresql"])
def storage(request, tmp_path):
    if request.param == "journal":
        return str(tmp_path / "study.journal")
    return request.getfixturevalue("postgresql")


@pytest.fixture
def study(storage):
    study = open_study(storage, "s")
    yield study
    if "://" in storage:
        optuna.delete_study(study_name="s", storage=study._storage)
        study._storage._backend.engine.dispose()


def test_two_workers_share_the_trials_and_draw_nothing_twice(storage, study):
    both = [start(storage, 16), start(storage, 16)]
    ran = [ended(process) for process in both]
    assert min(ran) >= 1
    assert sum(ran) == len(study.trials)
    assert set(states(study)) == {TrialState.COMPLETE}
    assert 16 <= len(study.trials) <= 17
    drawn = [trial.params["x"] for trial in study.trials]
    assert len(set(drawn)) == len(drawn)


def test_the_trial_of_a_killed_worker_is_run_again_with_its_number_and_parameters(storage, study):
    run_trials(study, lambda trial: trial.suggest_float("x", 0, 1), 3)
    killed = start(storage, 9, seconds=600)
    assert killed.stdout.readline().startswith("began")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert states(study) == [TrialState.COMPLETE] * 3 + [TrialState.RUNNING]
    drawn = study.trials[3].params
    assert ended(start(storage, 5)) == 2
    assert states(study) == [TrialState.COMPLETE] * 5
    assert study.trials[3].params == drawn


def test_six_workers_of_which_two_are_killed_lose_and_double_no_trial(tmp_path):
    """And they end with the parameters of a worker that was alone and was not killed."""
    storage, alone = (str(tmp_path / name) for name in ("study.journal", "alone.journal"))
    study = open_study(storage, "s")
    workers_ = [start(storage, 12, seconds=0.4) for _ in range(6)]
    for killed in workers_[:2]:
        assert killed.stdout.readline().startswith("began")
        killed.kill()
        killed.communicate()
    for process in workers_[2:]:
        ended(process)
    assert set(states(study)) == {TrialState.COMPLETE}
    assert 12 <= len(study.trials) <= 17
    run_trials(open_study(alone, "s"), lambda trial: trial.suggest_float("x", 0, 1), 10)
    # The first ten are drawn without a look at others, so they are the same in whatever order.
    assert [trial.params for trial in study.trials[:10]] == [
        trial.params for trial in open_study(alone, "s").trials]


def test_a_worker_that_is_killed_while_it_writes_holds_nobody_up(tmp_path):
    storage = str(tmp_path / "study.journal")
    study = open_study(storage, "s")
    holder = subprocess.Popen([sys.executable, "-c", (
        "import sys, time; from pathlib import Path\n"
        "from moascope.learning.storage import _journal_lock\n"
        "_journal_lock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"),
        storage], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    start = time.monotonic()
    run_trials(study, lambda trial: 0.0, 1)
    assert time.monotonic() - start < 5


def test_of_two_workers_that_claim_a_trial_the_last_one_has_it(tmp_path, monkeypatch):
    study = open_study(str(tmp_path / "study.journal"), "s")
    trial = study.ask()
    trial.set_user_attr(workers.WORKER, {"released": True})
    abandoned, = workers._abandoned(study, {}, lease=60)

    def quicker(seconds):
        trial.set_user_attr(workers.WORKER, {"claim": "another's"})

    monkeypatch.setattr(workers.time, "sleep", quicker)
    assert workers._claim(study, abandoned) is None
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)
    assert workers._claim(study, abandoned).number == trial.number


def test_a_trial_that_ends_its_worker_every_time_is_failed_in_the_end(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    began = []

    def deadly(trial):
        began.append(trial.number)
        raise MemoryError

    for _ in range(workers.MOST_ATTEMPTS):
        with pytest.raises(MemoryError):
            run_trials(study, deadly, 1)
    assert began == [0] * workers.MOST_ATTEMPTS
    assert run_trials(study, lambda trial: 0.5, 1) == 1
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_living_workers_trial_is_waited_for_and_never_failed(storage, study):
    slow = start(storage, 1, seconds=3, lease=1.0)
    assert slow.stdout.readline().startswith("began")
    seen = []
    ran = run_trials(study, lambda trial: 0.0, 1, lambda study, trial: seen.append(trial.number),
                     lease=1.0)
    assert ended(slow) == 1
    assert ran == 0
    assert seen == [0], "the stage logs the trials of other workers too"
    assert states(study) == [TrialState.COMPLETE]


def test_a_helper_does_not_wait_for_the_trials_of_others(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    running = study.ask()
    running.set_user_attr(workers.WORKER, this_process())
    assert run_trials(study, lambda trial: 0.0, 1, stay=False) == 0
    assert states(study) == [TrialState.RUNNING]


def test_a_worker_elsewhere_is_gone_when_its_signs_of_life_stop(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(workers.time, "monotonic", lambda: now)
    study = open_study(str(tmp_path / "study.journal"), "s")
    silent, living, unnamed = study.ask(), study.ask(), study.ask()
    for trial in (silent, living):
        # The number is that of a process which lives here, but it is another machine's.
        trial.set_user_attr(workers.WORKER, {"machine": "elsewhere", "process": 2**22 + 1})
    signs = {}
    for step in range(7):
        living.set_user_attr(workers.SIGN, step)
        assert workers._abandoned(study, signs, lease=60) == []
        now += 10
    abandoned = workers._abandoned(study, signs, lease=60)
    assert [trial.number for trial in abandoned] == [silent.number, unnamed.number]


def test_a_worker_that_slept_too_long_gives_its_trial_up_and_goes_on(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")
    slept = []

    def objective(trial):
        if not slept:
            slept.append(trial.number)
            study.tell(trial.number, state=TrialState.FAIL)
            trial.report(0.5, 1)
        return 0.5

    assert run_trials(study, objective, 1) == 2
    assert states(study) == [TrialState.FAIL, TrialState.COMPLETE]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_ends_a_worker_leaves_its_trial_to_the_next_run(tmp_path, error):
    study = open_study(str(tmp_path / "study.journal"), "s")
    drawn = []

    def objective(trial):
        drawn.append(trial.suggest_float("x", 0, 1))
        raise error

    with pytest.raises(error):
        run_trials(study, objective, 1)
    assert run_trials(study, lambda trial: trial.suggest_float("x", 0, 1), 1) == 1
    assert states(study) == [TrialState.COMPLETE]
    assert study.trials[0].params["x"] == drawn[0]


def test_a_pruned_trial_counts(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")

    def objective(trial):
        trial.report(0.25, 1)
        raise optuna.TrialPruned

    assert run_trials(study, objective, 2) == 2
    assert states(study) == [TrialState.PRUNED] * 2


def test_a_journal_that_ends_in_half_a_line_keeps_its_trials(tmp_path):
    journal = tmp_path / "study.journal"
    run_trials(open_study(str(journal), "s"), lambda trial: trial.suggest_float("x", 0, 1), 3)
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"a')
    study = open_study(str(journal), "s")
    run_trials(study, lambda trial: trial.suggest_float("x", 0, 1), 4)
    assert states(open_study(str(journal), "s")) == [TrialState.COMPLETE] * 4


def test_looking_at_a_study_does_not_change_its_journal(tmp_path):
    journal = tmp_path / "study.journal"
    run_trials(open_study(str(journal), "s"), lambda trial: 0.0, 1)
    before = journal.read_bytes()
    run_trials(open_study(str(journal), "s"), lambda trial: 0.0, 1)
    assert journal.read_bytes() == before


def test_a_worker_without_a_study_says_to_start_the_pipeline(tmp_path):
    for _ in range(2):
        with pytest.raises(MoascopeError, match=r"no study 's' in .*study\.journal\. Start"):
            open_study(str(tmp_path / "study.journal"), "s", make=False)
    assert not (tmp_path / "study.journal").exists()
    open_study(str(tmp_path / "study.journal"), "other")
    with pytest.raises(MoascopeError, match="no study 's'"):
        open_study(str(tmp_path / "study.journal"), "s", make=False)


def test_a_worker_without_data_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("target: gpcr\n")
    with pytest.raises(MoascopeError, match=r"data/embed does not exist.* Run `dvc repro split`"):
        work(Path("data"))


def test_a_wrong_password_is_a_sentence_that_does_not_show_it(postgresql):
    wrong = postgresql.replace("se%3Acret", "guess%3Ament")
    with pytest.raises(MoascopeError, match="password authentication failed") as error:
        open_study(wrong, "s")
    assert "guess" not in str(error.value)
    assert "127.0.0.1" in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize("address", [
    "nosuchdatabase://user:secret@127.0.0.1:1/x",
    "postgresql://user:secret@127.0.0.1:1/x",
    "postgresql://user:sec/secret@secret@127.0.0.1:1/x",
    "postgresql://127.0.0.1:1/x?user=u&password=secret",
    "postgresql://user:secret@127.0.0.1:port/x",
])
def test_a_storage_that_does_not_answer_is_a_sentence_without_the_password(address):
    with pytest.raises(MoascopeError, match=r"tune\.storage") as error:
        open_study(address, "s")
    assert "secret" not in str(error.value)
    assert "secret" not in address_shown(address)


@pytest.mark.parametrize("address", [
    "postgresql://user:secret@127.0.0.1/x",
    "postgresql+psycopg://user:secret@127.0.0.1/x",
    "POSTGRESQL://USER:secret@127.0.0.1/x",
    " postgresql://user:secret@127.0.0.1/x",
    "postgresql://:secret@127.0.0.1/x",
    "postgresql://user:sec/secret@127.0.0.1/x",
    "postgresql://user:sec?secret#@127.0.0.1/x",
    "postgresql://user%3Asecret@127.0.0.1/x",
    "postgresql://user%3Asecret%40127.0.0.1/x",
    "postgresql://user:secret@one,two/x",
    "postgresql:///user:secret@127.0.0.1/x",
    "postgresql:/user:secret@127.0.0.1/x",
    "postgresql:user:secret@127.0.0.1/x",
    "user:secret@127.0.0.1/x",
    "//user:secret@127.0.0.1/x",
    "postgresql://127.0.0.1/x?password=secret",
    "postgresql://127.0.0.1/x?user=u&PassWord=secret",
    "postgresql://127.0.0.1/x?p%61ssword=secret",
    "postgresql://127.0.0.1/x?user=u%26password%3Dsecret",
    "postgresql://127.0.0.1/x?sslpassword=secret",
    "postgresql://127.0.0.1/x?sslmode=on;passwd=secret",
    "postgresql://127.0.0.1/x?options=PGPASSWORD=secret",
    "mysql://127.0.0.1/x?pwd=secret",
    "host=127.0.0.1 user=u password=secret",
    "host=127.0.0.1 password = 'secret secret'",
    "redis://:secret@127.0.0.1",
])
def test_a_password_in_params_is_refused_and_not_shown(address):
    with pytest.raises(MoascopeError, match="MOASCOPE_STORAGE") as error:
        parse_params({"tune": {"storage": address}})
    assert "secret" not in str(error.value)
    assert "secret" not in address_shown(address)


def test_an_address_without_a_password_may_stand_in_params():
    for address in ("postgresql://user@127.0.0.1:5432/x", "postgresql:///x", "some/file.journal",
                    "postgresql://db/x?sslmode=require&passfile=/data/anna/.pgpass",
                    r"C:\Users\anna@lab\study.journal"):
        assert parse_params({"tune": {"storage": address}}).tune.storage == address


def test_the_environment_names_the_storage_before_params_do(monkeypatch, tmp_path):
    monkeypatch.delenv("MOASCOPE_STORAGE", raising=False)
    assert study_storage(Tune(), tmp_path / "j") == str(tmp_path / "j")
    assert study_storage(Tune(storage="postgresql:///x"), tmp_path / "j") == "postgresql:///x"
    monkeypatch.setenv("MOASCOPE_STORAGE", "postgresql:///y")
    assert study_storage(Tune(storage="postgresql:///x"), tmp_path / "j") == "postgresql:///y"


def test_a_worker_gives_signs_of_life_while_its_trial_runs(tmp_path):
    study = open_study(str(tmp_path / "study.journal"), "s")

    def objective(trial):
        time.sleep(0.5)
        return 0.0

    run_trials(study, objective, 1, lease=0.6)
    assert study.trials[0].user_attrs[workers.SIGN] >= 2
