"""Fixtures of the fault suite: operators of the tests' own, while the installed one stands still."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_lab import Installation, Lab, open_lab
from tests.support.fault_rest import installed_operator_at_rest
from tests.support.fault_table import FAULT, STAGE, Row, write_table
from tests.support.fault_verdict import Reference, lived_through
from tests.support.product import install
from tests.support.turns import turn

__all__ = ["turn"]


class Recorder:
    """Collects a row of each test that is a fault; with xdist it sits where the reports come together."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.began = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = {name: str(value) for name, value in report.user_properties}
        if FAULT not in said or not (report.when == "call" or report.failed):
            return
        outcome = "held" if report.passed else "broke"
        self.rows = [row for row in self.rows if row.fault != said[FAULT] or row.stage != said[STAGE]]
        self.rows.append(Row(said[FAULT], said[STAGE], outcome, round(report.duration, 1)))

    def pytest_sessionfinish(self) -> None:
        write_table(self.rows, time.monotonic() - self.began)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name, stage): a row of the table of faults")
    config.addinivalue_line("markers", "worst: of the worst third, which runs with every change")
    if config.getoption("--faults-table") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(), "fault table")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--as-installed", action="store_true", help="faults: take the product as it is on the cluster")
    parser.addoption("--faults-table", action="store_true", help="faults: write bench/results/faults.json")


@pytest.fixture(scope="session")
def installation(pytestconfig: pytest.Config) -> Iterator[Installation]:
    """The product of this work tree, its operator at rest until the last test process ends."""
    with installed_operator_at_rest(None if pytestconfig.getoption("--as-installed") else install):
        found = Installation.read()
        found.remove_orphans()
        yield found


@pytest.fixture(autouse=True)
def row(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Tell the table which fault, at which stage, this test is."""
    mark = request.node.get_closest_marker("fault")
    if mark is not None:
        case = request.node.callspec.id if hasattr(request.node, "callspec") else ""
        record_property(FAULT, mark.args[0].format(deed=case))
        record_property(STAGE, mark.args[1])


@pytest.fixture
def lab(installation: Installation, tmp_path: Path) -> Iterator[Lab]:
    """A namespace with an operator of its own."""
    with open_lab(installation, tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def reference(installation: Installation, tmp_path_factory: pytest.TempPathFactory, testrun_uid: str) -> Reference:
    """The result of a job that nothing disturbs, made once for all test processes."""
    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if folder.name.startswith("popen-") else folder) / f"reference-{testrun_uid}.json"
    with shared.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not shared.exists():
            shared.write_text(
                json.dumps({fmt: data.decode() for fmt, data in undisturbed(installation, folder).items()})
            )
        found: dict[str, Any] = json.loads(shared.read_text())
    return {fmt: text.encode() for fmt, text in found.items()}


def undisturbed(installation: Installation, folder: Path) -> dict[str, bytes]:
    with open_lab(installation, folder / "undisturbed") as lab:
        job = lab.submit()
        lab.wait(job.finished, "the undisturbed job has ended")
        status = job.status
        assert status["phase"] == "Succeeded", lab.describe()
        lived_through(lab)
        return {item["format"]: lab.storage.read(item["uri"]) for item in status["result"]["files"]}
