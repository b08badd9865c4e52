"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import make_screen

if TYPE_CHECKING:
    from buckets import Bucket

# Minutes each; where processes share the files, what begins last is what all wait for.
LONGEST = ("test_pipeline.py", "test_experiments.py", "test_backbones.py", "test_finetune.py",
           "test_reruns.py", "test_noise.py", "test_promote.py", "test_report.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their order."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of this session alone, shared by its workers and the processes that they start."""
    before = os.environ.get("XDG_CACHE_HOME")
    own = tmp_path_factory.getbasetemp()
    cache = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    cache.mkdir(exist_ok=True)
    os.environ["XDG_CACHE_HOME"] = str(cache)
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Bucket]:
    """One S3 server for all tests of a process."""
    from buckets import bucket_server

    with bucket_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket that anybody may read, without faults; an empty cache, no keys, short waits."""
    s3_server.forget()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "MOASCOPE_CACHE_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("MOASCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("moascope.addresses.stores.FIRST_WAIT", 0.01)
    # Processes that an earlier test started do not know where this bucket is.
    monkeypatch.setattr("moascope.stages.acquire.default_jobs", lambda: 1)
    return s3_server
