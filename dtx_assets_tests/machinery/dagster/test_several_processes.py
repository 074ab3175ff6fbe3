"""Loads wait for the checks that close the gate by edges of the graph: by no priority, on any executor."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import dagster as dg
import pytest

import dtx_assets_tests
from dtx_assets.dtx.decided_system import SYSTEM as DTX
from dtx_assets.dtx.definitions import defs as dtx_defs
from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from dtx_assets.machinery.checks.standard import check_groups
from dtx_assets.machinery.dagster.graph import Graph
from dtx_assets.machinery.dagster.run import failure_message, open_instance
from dtx_assets.machinery.dagster.worlds import WORLD_TAG
from dtx_assets.machinery.run.environment import ENVIRONMENT
from dtx_assets_tests.library import definitions as library_definitions
from dtx_assets_tests.library.place import Library


def upstream_steps(job: dg.JobDefinition, step: str) -> set[str]:
    """All steps that a step waits for."""
    waits_for = {
        invocation.alias or invocation.name: {
            node.node for dependency in dependencies.values() for node in dependency.get_node_dependencies()
        }
        for invocation, dependencies in job.dependencies.items()
    }
    found: set[str] = set()
    left = [step]
    while left:
        new = waits_for.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


@pytest.mark.parametrize(
    ("system", "definitions", "groups"),
    [
        (DTX, dtx_defs, check_groups(DTX)),
        (library_definitions.SYSTEM, library_definitions.defs, library_definitions.GROUPS),
    ],
    ids=["dtx", "library"],
)
@pytest.mark.parametrize("job", ["", "_cutover"])
def test_each_load_waits_for_every_check_that_closes_its_gate(system, definitions, groups, job):
    graph = Graph(system)
    made = definitions.resolve_job_def(f"{system.name}{job}")
    for target in system.filled_targets:
        gating = {
            f"{system.name}_check_{'_'.join(graph.key(*group.asset).path[1:])}"
            for group in groups
            if group.needs
            and any(spec.closes_gate for spec in group.specs)
            and target.model in graph.models_made_from(*group.asset)
        }
        assert len(gating) >= 3
        load = f"{system.name}_load_{target.model}{'_after_gate' if job else ''}"
        assert gating <= upstream_steps(made, load), target.model


@pytest.mark.parametrize(
    ("system", "definitions", "groups"),
    [
        (DTX, dtx_defs, check_groups(DTX)),
        (library_definitions.SYSTEM, library_definitions.defs, library_definitions.GROUPS),
    ],
    ids=["dtx", "library"],
)
def test_each_load_of_a_cutover_waits_for_the_gating_checks_of_all_tables(system, definitions, groups):
    graph = Graph(system)
    gating = {
        f"{system.name}_check_{'_'.join(graph.key(*group.asset).path[1:])}"
        for group in groups
        if group.asset[0] != "target" and group.needs and any(spec.closes_gate for spec in group.specs)
    }
    rehearsal, cutover = (definitions.resolve_job_def(f"{system.name}{job}") for job in ("", "_cutover"))
    loads = [f"{system.name}_load_{target.model}" for target in system.filled_targets]
    # What is made from rows that the same run loads is checked after that load.
    after_a_load = {check for check in gating if upstream_steps(rehearsal, check) & set(loads)}
    read_again = {load for check in gating for load in upstream_steps(rehearsal, check) & set(loads)}
    assert gating - after_a_load
    for load in loads:
        assert not gating <= upstream_steps(rehearsal, load), load
        awaited = gating - after_a_load if load in read_again else gating
        assert awaited <= upstream_steps(cutover, f"{load}_after_gate"), load
    assert set(loads) - read_again
    steps = {node.name.removesuffix("_after_gate") for node in cutover.nodes}
    assert steps ^ {node.name for node in rehearsal.nodes} == {f"{system.name}_gate"}


@contextmanager
def executed(
    library: Library, made_by: Callable[[], dg.JobDefinition], *, processes: int, restore_point: str | None = "snap"
) -> Iterator[dg.JobExecutionResult]:
    """A cutover by the job that a function of the library makes; its events can be read inside."""
    # From where the processes of the steps import the code location.
    with chdir(Path(dtx_assets_tests.__file__).parents[1]), open_instance(library.home) as instance:
        yield dg.execute_job(
            dg.reconstructable(made_by),
            instance=instance,
            run_config={
                "resources": {
                    ENVIRONMENT: {
                        "config": {
                            "mode": "cutover",
                            **({"restore_point": restore_point} if restore_point else {}),
                        }
                    }
                },
                "execution": {"config": {"max_concurrent": processes}},
            },
        )


def test_a_cutover_by_several_processes_is_not_refused_for_checks_to_come(tmp_path, database_url, monkeypatch):
    library = Library(tmp_path, database_url, monkeypatch)
    # What comes before takes a second a step in a process of its own, and has no part in it.
    assert library.run(select="+prepared/Reader").failures == []
    with executed(library, library_definitions.job_of_several_processes, processes=2) as result:
        events = [(event.event_type_value, str(event.step_key)) for event in result.all_events if event.is_step_event]
        assert result.success, [event.message for event in result.all_events if event.is_failure]
    assert library.sql("SELECT count(*) FROM reader") == [(2,)]
    assert library.sql("SELECT mode, status FROM migration.run") == [("cutover", "succeeded")]
    started = events.index(("STEP_START", "library_load_Reader"))
    for asset in ("prepared_Reader", "rejected_Reader"):
        assert events.index(("STEP_SUCCESS", f"library_check_{asset}")) < started


def test_by_several_processes_no_step_of_a_refused_cutover_is_done(tmp_path, database_url, monkeypatch):
    library = Library(tmp_path, database_url, monkeypatch)
    with executed(library, library_definitions.job_of_several_processes, processes=2, restore_point=None) as result:
        assert not [event for event in result.all_events if event.is_step_success]
        told = [failure_message(event) for event in result.all_events if event.is_step_failure]
    assert any("restore_point: no restore point" in text for text in told), told
    assert not list(library.home.rglob("*.parquet"))


def test_by_several_processes_a_red_check_of_one_table_keeps_back_the_rows_of_another(
    tmp_path, database_url, monkeypatch
):
    library = Library(tmp_path, database_url, monkeypatch)
    library.write("book", "book_id,branch_id,title,pages,added", ("1,10,A,not a number,",))
    # All that the readers' own gate asks for was evaluated; of the books, nothing.
    assert library.run(select="+prepared/Reader or +rejected/Reader or +prepared/Book").failures == []
    with open_instance(library.home) as instance:
        instance.wipe_assets([dg.AssetKey(["library", layer, "Book"]) for layer in ("prepared", "rejected")])
    with executed(library, library_definitions.cutover_of_readers_beside_checks_of_books, processes=4) as result:
        (failed,) = [event for event in result.all_events if event.is_step_failure]
        (noted,) = [event for event in result.all_events if event.is_step_materialization]
    assert failed.step_key == "library_load_Reader_after_gate"
    assert "Reader is not loaded, 1 thing(s)" in failure_message(failed)
    assert "Book/book/unparseable: 1 row is rejected: unparseable" in failure_message(failed)
    assert noted.step_materialization_data.materialization.metadata["points in the way"].value == 1
    assert library.sql("SELECT count(*) FROM reader") == [(0,)]


def test_the_environment_gives_each_step_a_process_and_the_command_tells_what_they_do(
    tmp_path, database_url, monkeypatch
):
    library = Library(tmp_path, database_url, monkeypatch)
    assert library.run(select="+prepared/Reader").failures == []
    project = Path(dtx_assets_tests.__file__).parents[1]
    (library.directory / "workspace.yaml").write_text(
        "load_from:\n  - python_module:\n      module_name: dtx_assets_tests.library.definitions\n"
        "      location_name: library\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "dtx_assets.cli.main", "run", "library", "--select", "target/Reader"],
        cwd=library.directory,
        env={**os.environ, "PYTHONPATH": str(project), "LIBRARY_EXECUTOR": "multiprocess"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (EXIT_OK, EXIT_CHECK_FAILED), done.stdout + done.stderr
    assert "load Reader: " in done.stdout
    assert library.sql("SELECT count(*) FROM reader") == [(2,)]
    assert library.sql("SELECT status FROM migration.run") == [("succeeded",)]
    logs = [log.read_text() for log in (library.home / "logs").glob("*.log")]
    assert any('Executing step "library_load_Reader" in subprocess' in log for log in logs)
    with open_instance(library.home) as instance:
        run, _ = instance.get_runs()
    assert f'"lake": "{library.home / "lake"}"' in run.tags[WORLD_TAG]
