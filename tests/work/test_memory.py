"""Memory that runs out ends in a sentence, and short files take little of it."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from moascope.errors import run_to_exit_code
from moascope.opening import PIECE, read_file, read_up_to
from moascope.screen.reading import MOST_TABLE

LIMIT = 2**30


def limited(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run Python under a limit on memory that is below the most that a table may have."""
    assert LIMIT < MOST_TABLE
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)), check=False)


def test_a_short_table_is_read_where_a_long_one_would_not_fit(tmp_path: Path):
    (tmp_path / "layout.csv").write_text("Metadata_Plate,Metadata_Well\nP1,A01\n")
    ended = limited("import sys; from pathlib import Path;"
                    "from moascope.screen.reading import read_table;"
                    "print(read_table(Path(sys.argv[1]), []))", tmp_path / "layout.csv")
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert "A01" in ended.stdout


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5])
def test_files_are_read_to_the_end_or_to_the_most(tmp_path: Path, length):
    content = bytes(i % 251 for i in range(1000)) * (length // 1000 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:length])
    assert read_file(path, length) == content[:length]
    for most in (0, 1, length // 2, length, length + 1):
        with path.open("rb") as file:
            assert read_up_to(file, most) == content[:min(length, most)]
    if length:
        with pytest.raises(OSError, match="longer than"):
            read_file(path, length - 1)


@pytest.mark.parametrize(("error", "said"), [
    (MemoryError(), "error: Memory ran out. What was finished is kept."),
    (MemoryError("Unable to allocate 4.00 GiB"),
     "error: Memory ran out (Unable to allocate 4.00 GiB). What was finished is kept."),
])
def test_memory_that_runs_out_is_a_sentence(error, said, capsys):
    def program():
        raise error

    assert run_to_exit_code(program) == 1
    assert capsys.readouterr().err.startswith(said)


def test_an_array_that_does_not_fit_is_a_sentence():
    ended = limited("import sys, numpy; from moascope.errors import run_to_exit_code;"
                    "sys.exit(run_to_exit_code(lambda: numpy.ones(2**28)))")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: Memory ran out (Unable to allocate 2.00 GiB")
    assert "Traceback" not in ended.stderr
