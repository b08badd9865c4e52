"""Do the tests notice a changed line? Changes lines at random and runs the tests that reach them.

    python tests/mutating.py --mutants 200 --seed 0     # the score, and every survivor
    python tests/mutating.py --only survivors.json      # those of an earlier run once more

The changes are those of mutmut (`==` to `!=`, `+` to `-`, a number plus one, an argument left out,
...). mutmut's own runner is not used: it tests all mutants of a project, each by all the tests that
reach it, the tests of whole pipelines among them, while here a mutant costs seconds: a sample is
drawn over all files, and each mutant meets the quickest tests of its line in a fork of a process
that has the libraries loaded. Text that is read by people (a string with a blank) is not changed.

What tests reach is measured first, test file by test file, in `--jobs` processes, and kept: it is
measured anew where a test file, or a file whose functions its tests ran, has changed. Results are
in the order in which mutants were drawn, so that a run that was stopped leaves a sample, too
(`--out`).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
MUTATED = ("metrics.py", "evaluation/*.py", "learning/*.py", "promotion/*.py", "screen/targets.py",
           "screen/question.py", "features/normalise.py")
TESTS = ("test_metrics.py", "evaluation", "learning", "promotion", "screen/test_targets.py",
         "screen/test_question.py", "screen/test_compounds.py", "features/test_normalise.py",
         "features/test_normalise_by_hand.py", "features/test_disk.py",
         "explanation/test_contributions.py")
# What most tests load sooner or later; nothing of ours, which must be loaded changed.
LOADED = ("pytest", "numpy", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.sparse",
          "sklearn.linear_model", "sklearn.ensemble", "sklearn.metrics", "sklearn.model_selection",
          "sklearn.neighbors", "optuna", "copairs.map", "mlflow.pyfunc", "keras")
ALIVE = ("survived", "no test")
BUDGET = 20.0   # seconds of tests that a mutant meets at most, as measured without it


@dataclass(frozen=True)
class Mutant:
    """A changed piece of a file: what stands where, what would stand there instead."""

    file: str
    line: int
    end: int
    number: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.before}  ->  {self.after}"


@dataclass(frozen=True)
class Reached:
    """What a file of tests reaches: seconds of each test, and the tests of every line.

    `sources` are the files of the package and of the tests whose functions they ran, with digests.
    """

    seconds: dict[str, float]
    shared: float
    lines: dict[str, dict[str, list[str]]]
    sources: dict[str, str]


def files() -> list[Path]:
    home = SOURCE / "moascope"
    return sorted(path for pattern in MUTATED for path in home.glob(pattern)
                  if path.name != "__init__.py")


def mutants_of(path: Path) -> Iterator[tuple[Mutant, Callable[[], str]]]:
    """Every mutant of a file, with what gives the file's changed text."""
    import libcst
    from libcst.metadata import MetadataWrapper, PositionProvider
    from mutmut.mutation.file_mutation import MutationVisitor
    from mutmut.mutation.mutators import mutation_operators
    from mutmut.mutation.pragma_handling import get_ignored_lines

    text = path.read_text()
    wrapper = MetadataWrapper(libcst.parse_module(text))
    visitor = MutationVisitor(mutation_operators, get_ignored_lines(str(path), text, wrapper), None)
    module = wrapper.visit(visitor)
    places = wrapper.resolve(PositionProvider)
    name = path.relative_to(SOURCE).as_posix()

    def said(node: Any) -> str:
        return " ".join(module.code_for_node(node).split())

    for number, mutation in enumerate(visitor.mutations):
        old, new = mutation.original_node, mutation.mutated_node
        if mutation.contained_by_top_level_function is None or _is_prose(old, libcst):
            continue
        place = places[old]
        yield (Mutant(name, place.start.line, place.end.line, number, said(old), said(new)),
               lambda old=old, new=new: module.deep_replace(old, new).code)


def _is_prose(node: Any, libcst: Any) -> bool:
    return isinstance(node, libcst.SimpleString) and " " in node.raw_value.strip()


def draw(count: int, seed: int) -> list[tuple[Mutant, Callable[[], str]]]:
    """Mutants drawn at random from those of all files."""
    everything = [one for path in files() for one in mutants_of(path)]
    print(f"{len(everything)} mutants in {len(files())} files; "
          f"{min(count, len(everything))} drawn with seed {seed}", flush=True)
    return random.Random(seed).sample(everything, min(count, len(everything)))


def survivors(earlier: Path) -> list[tuple[Mutant, Callable[[], str]]]:
    """The mutants that survived an earlier run, found again by what they change."""
    alive = Counter((one["file"], one["before"], one["after"])
                    for one in json.loads(earlier.read_text()) if one["outcome"] in ALIVE)
    found = []
    for file in sorted({file for file, *_ in alive}):
        for mutant, changed in mutants_of(SOURCE / file):
            if alive[mutant.file, mutant.before, mutant.after]:
                found.append((mutant, changed))
    return found


def measure(kept: Path, jobs: int) -> list[Reached]:
    """What every file of tests reaches; kept while the file and what it ran are the same."""
    kept.mkdir(parents=True, exist_ok=True)

    def one(path: Path) -> Reached:
        note = kept / f"{path.stem}-{_digest(path)}.json"
        if found := _known(note):
            return found
        print(f"measuring {path.relative_to(ROOT)}", flush=True)
        log = kept / f"{path.stem}.txt"
        if _forked(lambda: _measure(path, note), 900, log):
            raise SystemExit(f"{path.relative_to(ROOT)} fails without a mutant: see {log}.")
        log.unlink()
        return Reached(**json.loads(note.read_text()))

    places = [ROOT / "tests" / part for part in TESTS]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, [path for place in places for path in (
            [place] if place.suffix else sorted(place.glob("test_*.py")))]))


def _known(note: Path) -> Reached | None:
    """What was measured before, if no file that was run has changed since."""
    if not note.exists():
        return None
    found = Reached(**json.loads(note.read_text()))
    return found if all((ROOT / name).exists() and _digest(ROOT / name) == digest
                        for name, digest in found.sources.items()) else None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class _Watch:
    """A plug-in of pytest that notes time and lines of every test.

    What a fixture runs counts for all tests of the file: it may be shared, and be looked at by
    another test than the one that asks first.
    """

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: dict[str, float] = {}
        self.shared = 0.0
        self.last = time.process_time()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context("shared")
        self.last = time.process_time()

    def pytest_runtest_call(self, item: Any) -> None:
        self.coverage.switch_context(item.nodeid)

    def pytest_runtest_teardown(self, item: Any) -> None:
        self.coverage.switch_context("shared")

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        # Processor time: the wall's depends on what else the machine does.
        now = time.process_time()
        if call.when == "call":
            self.seconds[item.nodeid] = now - self.last
        else:
            self.shared += now - self.last
        self.last = now


def _measure(path: Path, note: Path) -> int:
    import coverage
    import pytest

    cover = coverage.Coverage(data_file=None, source=[str(SOURCE / "moascope"),
                                                      str(ROOT / "tests")])
    watch = _Watch(cover)
    cover.start()
    code = int(pytest.main([*_options(), str(path)], plugins=[watch]))
    cover.stop()
    data, lines, sources = cover.get_data(), {}, {}
    mutated = set(files())
    for file in data.measured_files():
        own = {str(line): [context for context in contexts if context]
               for line, contexts in data.contexts_by_lineno(file).items()}
        if any(own.values()):
            sources[Path(file).relative_to(ROOT).as_posix()] = _digest(Path(file))
            if Path(file) in mutated:
                lines[Path(file).relative_to(SOURCE).as_posix()] = own
    if not code:
        note.write_text(json.dumps(asdict(Reached(watch.seconds, watch.shared, lines, sources))))
    return code


def _options() -> list[str]:
    return ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow",
            # Libraries are loaded before pytest starts.
            "-W", "ignore::pytest.PytestAssertRewriteWarning",
            "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "--durations=0",
            "--tb=no", "--no-header"]


def tests_of(mutant: Mutant, reached: Sequence[Reached]) -> tuple[list[str], float]:
    """The quickest tests that run a mutant's lines, file by file, and their seconds."""
    price: list[tuple[float, float, list[tuple[float, str]]]] = []
    for one in reached:
        lines = one.lines.get(mutant.file, {})
        names = {name for line in range(mutant.line, mutant.end + 1)
                 for name in lines.get(str(line), [])}
        if "shared" in names:
            names = set(one.seconds)
        timed = sorted((one.seconds[name], name) for name in names if name in one.seconds)
        if timed:
            price.append((one.shared + timed[0][0], one.shared, timed))
    chosen, spent = [], 0.0
    for _, shared, timed in sorted(price):
        if chosen and spent + shared + timed[0][0] > BUDGET:
            continue
        spent += shared
        for seconds, name in timed:
            if chosen and spent + seconds > BUDGET:
                break
            chosen.append(name)
            spent += seconds
    return chosen, spent


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a changed text."""

    def __init__(self, file: str, text: str) -> None:
        self.name = file.removesuffix(".py").replace("/", ".")
        self.path = str(SOURCE / file)
        self.text = text

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self)

    def exec_module(self, module: Any) -> None:
        exec(compile(self.text, self.path, "exec"), module.__dict__)


def outcome(mutant: Mutant, changed: Callable[[], str], reached: Sequence[Reached],
            ) -> dict[str, Any]:
    """Run a mutant's tests: killed, by the time as well, or survived, or met by no test."""
    tests, seconds = tests_of(mutant, reached)
    start = time.perf_counter()
    if not tests:
        return asdict(mutant) | {"outcome": "no test", "tests": 0, "seconds": 0.0}

    def run() -> int:
        import pytest
        sys.meta_path.insert(0, _Changed(mutant.file, changed()))
        return int(pytest.main([*_options(), *(str(ROOT / name) for name in tests)]))

    code = _forked(run, int(30 + 4 * seconds))
    said = "survived" if code == 0 else "timeout" if code < 0 else "killed"
    return asdict(mutant) | {"outcome": said, "tests": len(tests),
                             "seconds": round(time.perf_counter() - start, 1)}


def _forked(work: Callable[[], int], limit: int, log: Path = Path(os.devnull)) -> int:
    """The exit code of work done in a fork; negative where it took too long or died."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        said = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        for number in (1, 2):
            os.dup2(said, number)
        code = 70
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + 8 * limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            # What tests started and did not end would outlive the mutant.
            _end_session(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            _end_session(pid)
            return -9
        time.sleep(0.02)


def _end_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=200, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=Path, help="the survivors in the --out of an earlier run")
    parser.add_argument("--out", type=Path, help="every mutant and its outcome, JSON")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=ROOT / ".mutating",
                        help="where the lines that tests reach are kept")
    options = parser.parse_args()
    sys.path[:0] = [str(SOURCE), str(ROOT / "tests")]
    os.chdir(ROOT)
    for name in LOADED:
        importlib.import_module(name)
    reached = measure(options.kept, options.jobs)
    drawn = survivors(options.only) if options.only else draw(options.mutants, options.seed)
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda one: outcome(*one, reached), drawn):
            results.append(result)
            if result["outcome"] in ALIVE:
                print(f"{result['outcome']}: {result['file']}:{result['line']}: "
                      f"{result['before']}  ->  {result['after']}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1))
    report(results)


def report(results: Sequence[dict[str, Any]]) -> None:
    count = Counter(one["outcome"] for one in results)
    by_room: dict[str, Counter[str]] = defaultdict(Counter)
    for one in results:
        by_room[one["file"].split("/")[1]][one["outcome"]] += 1
    found = count["killed"] + count["timeout"]
    print(f"{found} of {len(results)} mutants killed ({found / len(results):.1%}), "
          f"{count['timeout']} of them by the time; {count['survived']} survived, "
          f"{count['no test']} are met by no test")
    for room, own in sorted(by_room.items()):
        dead = own["killed"] + own["timeout"]
        print(f"  {room:15} {dead:4} of {own.total():4} ({dead / own.total():.0%})")


if __name__ == "__main__":
    main()
