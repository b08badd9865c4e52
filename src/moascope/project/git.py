"""What a project needs of git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from moascope.errors import MoascopeError


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder; the caller looks at the exit status.

    Raises
    ------
    MoascopeError
        Where git is not installed.
    """
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True,
                              check=False)
    except FileNotFoundError:
        raise MoascopeError("git is not installed, and a project's history is kept by git. Install "
                            "git and try again.") from None


def require(done: subprocess.CompletedProcess[str]) -> str:
    """What a git command printed.

    Raises
    ------
    MoascopeError
        With git's own words, where it failed.
    """
    if done.returncode:
        raise MoascopeError(f"`{' '.join(done.args)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()
