"""What the package says of itself agrees: version, Pythons, links between pages."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import moascope

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks/README.md"])


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_citation_and_changelog_have_the_version_of_the_package(project):
    assert project["dynamic"] == ["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == moascope.__version__
    assert f"\n## [{moascope.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_every_python_that_is_promised_is_in_the_workflow(project):
    promised = [line.rsplit(" ", 1)[1] for line in project["classifiers"]
                if re.search(r":: 3\.\d+$", line)]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == promised
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    assert promised == [f"3.{minor}" for minor in range(int(low), int(high))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [target for target in targets
               if "://" not in target and not (page.parent / target).exists()]
    assert not missing, f"{page.name} links to {', '.join(missing)}"


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
