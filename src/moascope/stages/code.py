"""Note which code each stage depends on."""

from __future__ import annotations

from pathlib import Path

from moascope.params import Params
from moascope.text import counted
from moascope.work.code import stage_lines
from moascope.work.files import write_atomically


def code(params: Params, out: Path) -> str:
    """Write for each stage the digests of the code that it can reach.

    DVC runs a stage again where its file changed. Comments, docstrings and formatting change no
    file, and neither does code that the stage cannot reach. What lies in the folders of
    acquire.more belongs to acquire's: DVC cannot depend on a list of folders.
    """
    from moascope.sources.several import what_lies_in

    stages = [path.stem for path in sorted(Path(__file__).parent.glob("*.py"))
              if path.stem not in ("__init__", "run", "code")]
    out.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        lines = stage_lines(stage)
        if stage == "acquire" and params.acquire.more:
            lines += f"acquire.more {what_lies_in(params.acquire.more)}\n"
        write_atomically(out / stage, lines)
    return f"noted for {counted(len(stages), 'stage')}"
