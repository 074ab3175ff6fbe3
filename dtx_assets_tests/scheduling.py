"""Which worker runs which file of tests, also after a worker has crashed. A plugin of pytest.

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

ENOUGH_AHEAD = 2
"""A worker begins with a test once it has the next one."""


class FilesOutliveWorkers(LoadFileScheduling):
    """What a crashed worker had not done is done by another. A test in which a second one crashes is not run again."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.crashes: Counter[str] = Counter()

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
