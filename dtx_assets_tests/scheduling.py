"""Which worker runs which file of tests, the long ones first, also after a worker has crashed. A plugin of pytest.

A segmentation fault in a native library ends a worker, and pytest-xdist 3.8 may then wait for good: it hands out what
the worker had done once more, as work of no tests, and a single test to a worker that waits for a second one (its
issues 1323 and 1327). Once its releases do not, the scheduler's methods can go.
"""

from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

FIRST = tuple(
    f"dtx_assets_tests/{name}"
    for name in (
        "dtx/test_kill.py",
        "dtx/test_cutover.py",
        "crm/test_run_against_second_reading.py",
        "dtx/test_automation.py",
        "test_readme.py",
        "test_interrupts_of_commands.py",
        "dtx/test_ui.py",
        "dtx/test_ui_and_other_pages.py",
        "dtx/test_workers.py",
        "dtx/test_shards.py",
        "cli/test_sakila.py",
        "test_demo.py",
        "test_how_to.py",
        "test_system_by_hand.py",
        "test_deploy.py",
        "crm/test_junctions.py",
        "dtx/test_same_rows_from_every_source.py",
        "dispatch/test_phase_5.py",
        "pad/test_pad_run.py",
    )
)
"""Files that take a minute or several, and mostly have few tests: xdist would hand them out last, by their number, and
one worker would end with them long after the others."""
ON_ONE_WORKER = {"dtx_assets_tests/crm/test_faults.py": "dtx_assets_tests/crm/test_crm_run.py"}
"""Files that look at one run of the same fixture, and those with which they are handed out."""
ENOUGH_AHEAD = 2
"""A worker begins with a test once it has the next one."""


class FilesOutliveWorkers(LoadFileScheduling):
    """What a crashed worker had not done is done by another. A test in which a second one crashes is not run again."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.crashes: Counter[str] = Counter()

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return ON_ONE_WORKER.get(file, file)

    def remove_node(self, node: WorkerController) -> str | None:
        workload = self.assigned_work.pop(node)
        left = {scope: {test: False for test, done in unit.items() if not done} for scope, unit in workload.items()}
        left = {scope: unit for scope, unit in left.items() if unit}
        if not left:
            return None
        scope, unit = next(iter(left.items()))
        crashed = next(iter(unit))
        self.crashes[crashed] += 1
        if self.crashes[crashed] > 1:
            del unit[crashed]
        for scope, unit in left.items():
            if unit:
                self.workqueue[scope] = unit
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _assign_work_unit(self, node: WorkerController) -> None:
        if long := next((file for file in FIRST if file in self.workqueue), None):
            self.workqueue.move_to_end(long, last=False)
        # Of one that has just crashed the end is told next, and `remove_node` takes the work back.
        with suppress(OSError):
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= ENOUGH_AHEAD:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesOutliveWorkers | None:
    return FilesOutliveWorkers(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport, sched: Any) -> None:
    """Tell the first crash in the summary, and go by how the test ends when it is run again."""
    if isinstance(sched, FilesOutliveWorkers) and sched.crashes[crashitem] == 1:
        report.outcome = "skipped"
        report.longrepr = (crashitem.split("::", maxsplit=1)[0], 0, f"Skipped: {report.longrepr}; it is run again")
