"""A small project that is explored, and its pages as they are served."""

import contextlib

import pytest
from browsing import Client, serving
from explored import write_project

from moascope.exploring.content import Explorer
from moascope.exploring.index import open_index
from moascope.exploring.said import read_said
from moascope.exploring.serve import explorer_application
from moascope.web.site import open_site


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("explored"))


@pytest.fixture(scope="session")
def explorer(project):
    return Explorer(open_index(project / "data", "pca"),
                    read_said(project / "reports", "gpcr"), "explored")


@pytest.fixture(scope="session")
def served(explorer):
    site = open_site()
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(explorer_application(explorer, site), site))
        yield site


@pytest.fixture
def client(served):
    return Client(served)
