"""A circle of tables in the graph: one step loads it, each table has its own asset, checks and report."""

import dagster as dg
import pytest

from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_OK
from dtx_assets.machinery.load import undo_run
from dtx_assets_tests.machinery.dagster.shops import Shops

STORE, STAFF = [(1, 11, "a"), (2, 12, "b")], [(11, 1, "A"), (12, 1, "B"), (13, 2, "C")]
CHECKS = {
    f"target/{model}:{check}"
    for model in ("Store", "Staff")
    for check in ("holds_what_the_mapping_gives", "no_row_is_rejected_by_the_load")
}


@pytest.fixture
def shops(tmp_path, database_url, monkeypatch) -> Shops:
    return Shops(tmp_path, database_url, monkeypatch)


def test_a_circle_is_planned_loaded_verified_and_undone(shops):
    shops.write(STORE, STAFF)
    plan = shops.run("shops_plan").plan
    assert plan is not None
    assert {load["model"]: (load["inserted"], load["rejected"]) for load in plan["loads"]} == {
        "Store": (2, 0),
        "Staff": (3, 0),
    }
    assert shops.there() == ([], [])
    done = shops.run()
    assert done.exit_code == EXIT_OK, done.failures
    assert {f"{check.asset}:{check.name}" for check in done.checks if check.passed} >= CHECKS
    assert {model: load["inserted"] for model, load in done.loads.items()} == {"Store": 2, "Staff": 3}
    assert shops.there() == (STORE, STAFF)
    verified = shops.run("shops_verify")
    assert {load["model"]: load["rows"] for load in verified.verifications} == {"Store": 2, "Staff": 3}
    assert undo_run(shops.url, "shops", shops.system.targets, "last").deleted == {"store": 2, "staff": 3}
    assert shops.there() == ([], [])
    lost = shops.run("shops_verify")
    assert {load["model"]: load["lost"] for load in lost.verifications} == {"Store": 2, "Staff": 3}


def test_a_row_that_the_target_refuses_turns_the_checks_of_all_red_until_a_replay_takes_it(shops):
    shops.write(STORE, [STAFF[0], (12, 1, "bad"), STAFF[2]])
    done = shops.run()
    assert done.exit_code == EXIT_CHECK_FAILED
    red = {f"{check.asset}:{check.name}": check.count for check in done.checks if check.is_error}
    assert red == {
        "target/Store:no_row_is_rejected_by_the_load": 1,
        "target/Staff:no_row_is_rejected_by_the_load": 2,
    }
    assert shops.there() == (STORE[:1], STAFF[:1])
    shops.sql("ALTER TABLE staff DROP CONSTRAINT staff_name_check")
    replay = shops.run("shops_replay")
    assert {model: load["inserted"] for model, load in replay.loads.items()} == {"Store": 1, "Staff": 2}
    assert shops.there() == (STORE, [STAFF[0], (12, 1, "bad"), STAFF[2]])


def test_a_cutover_loads_a_circle_after_the_gate(shops):
    shops.write(STORE, STAFF)
    loads = shops.definitions.resolve_job_def("shops_cutover").asset_layer
    step = loads.asset_graph.get(dg.AssetKey(["shops", "target", "Store"]))
    assert dg.AssetKey(["shops", "report", "gate"]) in step.parent_keys
    done = shops.run("shops_cutover", mode="cutover", restore_point="snap")
    assert done.exit_code == EXIT_OK, done.failures
    assert shops.there() == (STORE, STAFF)


def test_one_table_of_a_circle_may_be_loaded_alone_with_what_is_there(shops):
    shops.write(STORE, STAFF)
    assert shops.run().exit_code == EXIT_OK
    shops.write([(1, 13, "a"), (2, 12, "b")], [*STAFF, (14, 2, "D"), (15, 3, "of none")])
    done = shops.run(select="legacy/staff or prepared/Staff or rejected/Staff or target/Staff")
    assert {model: (load["inserted"], load["rejected"]) for model, load in done.loads.items()} == {"Staff": (1, 1)}
    assert shops.there() == (STORE, [*STAFF, (14, 2, "D")])
