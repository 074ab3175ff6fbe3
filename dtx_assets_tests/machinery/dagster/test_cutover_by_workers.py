"""A cutover of any system whose steps are done by two workers."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import dtx_assets_tests
from dtx_assets.machinery.base.exit_codes import EXIT_OK, EXIT_STEP_FAILED
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.working import worker
from dtx_assets_tests.library.place import Library
from dtx_assets_tests.patience import PATIENCE

ENDED_TWICE = "SELECT step FROM migration.step_attempt GROUP BY run_id, step HAVING count(ended_at) <> 1"


def by_workers(library: Library, broker_url: str) -> Command:
    """`dtx` beside a workspace that names the system, on a machine that all workers are on."""
    project = Path(dtx_assets_tests.__file__).parents[1]
    (library.directory / "workspace.yaml").write_text(
        "load_from:\n  - python_module:\n      module_name: dtx_assets_tests.library.definitions\n"
        "      location_name: library\n"
    )
    (library.directory / f".env.{library.directory.name}").touch()
    told = {"EXECUTOR": "celery", "BROKER_URL": broker_url, "SHARED": "this-machine"}
    environment = {f"LIBRARY_{name}": value for name, value in told.items()}
    return Command(
        library.directory, {**environment, "APP_ENV": library.directory.name, "PYTHONPATH": str(project)}, seconds=600
    )


def wait_for_a_step(library: Library) -> None:
    deadline = time.monotonic() + PATIENCE
    while library.sql("SELECT count(*) FROM migration.step_attempt WHERE step LIKE '%prepare%'") == [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_cutover_on_two_workers_passes_though_the_broker_dies_and_a_refused_one_writes_nothing(
    tmp_path, database_url, broker, monkeypatch
):
    library = Library(tmp_path, database_url, monkeypatch)
    dtx = by_workers(library, broker.url)
    with ExitStack() as workers:
        with broker.running(signal.SIGKILL):
            for name in ("one", "two"):
                workers.enter_context(worker(dtx, name, "library"))
            refused = dtx("run", "library", "--mode", "cutover")
            assert refused.returncode == EXIT_STEP_FAILED, refused.stdout + refused.stderr
            assert "restore_point" in refused.stdout
            assert library.sql("SELECT count(*) FROM reader") == [(0,)]
            cutover = dtx.started("run", "library", "--mode", "cutover", "--restore-point", "snap")
            wait_for_a_step(library)
        with broker.running():
            said, _ = cutover.communicate(timeout=PATIENCE)
            # They leave when the broker is there to be left.
            workers.close()
    assert cutover.returncode == EXIT_OK, said
    assert library.sql("SELECT count(*) FROM reader") == [(2,)]
    assert library.sql("SELECT mode, status FROM migration.run") == [("cutover", "succeeded")]
    [(steps, done_by)] = library.sql(
        "SELECT count(DISTINCT (run_id, step)), count(DISTINCT split_part(worker, '/', 1)) FROM migration.step_attempt"
    )
    assert steps > 20
    assert done_by == 2
    assert library.sql(ENDED_TWICE) == []
