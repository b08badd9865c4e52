"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import make_screen

# Minutes each; where processes share the files, what begins last is what all wait for.
LONGEST = ("test_pipeline.py", "test_experiments.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of this session alone, shared with the processes that it starts."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def screen_folder(tmp_path: Path) -> Path:
    """A small sound screen: one plate, eight wells, two sites, two 16-bit channels."""
    return make_screen(tmp_path / "screen")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images beside the repository; tests skip where it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MOASCOPE_REAL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set MOASCOPE_REAL_DATA to test on them")
    return folder
