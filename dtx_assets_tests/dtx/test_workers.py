"""Runs whose steps are done by workers that RabbitMQ hands them to: the sample on two, one of which is killed."""

import os
import re
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from dtx_assets.machinery.base.exit_codes import EXIT_CHECK_FAILED, EXIT_STEP_FAILED, EXIT_USAGE
from dtx_assets.machinery.base.failpoints import FAILPOINT, PROOF
from dtx_assets_tests.dtx.commands import Command
from dtx_assets_tests.dtx.killing import first_differences, target_state
from dtx_assets_tests.dtx.working import as_new, worker
from dtx_assets_tests.patience import PATIENCE

CUTOVER_AT = "2026-11-21T00:00:00Z"
POINT = "load.after_copy"
BATCH_ROWS, SHARD_ROWS = "40", "80"
"""So that tables of the sample are prepared in shards."""


@pytest.fixture
def by_workers(tmp_path, target, broker_url) -> Command:
    """`dtx` on a machine that all workers are on."""
    place = {
        "EXECUTOR": "celery",
        "BROKER_URL": broker_url,
        "SHARED": "this-machine",
        "TARGET_URL": target,
        "CUTOVER_AT": CUTOVER_AT,
        "BATCH_ROWS": BATCH_ROWS,
        "SHARD_ROWS": SHARD_ROWS,
    }
    # Queues are of an environment: tests share the broker.
    (tmp_path / f".env.{tmp_path.name}").touch()
    return Command(
        tmp_path, {**{f"DTX_{name}": value for name, value in place.items()}, "APP_ENV": tmp_path.name}, seconds=900
    )


def kill_once_there(process: subprocess.Popen[bytes], proof: Path) -> None:
    """The parent too, once a child of it was killed."""
    deadline = time.monotonic() + 10 * PATIENCE
    while not proof.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)


def test_the_sample_on_two_workers_of_which_one_is_killed_is_as_in_one_process(
    tmp_path, by_workers, postgres_server, s3_server, s3_bucket
):
    dtx, proof = by_workers, tmp_path / "proof"
    dtx.environment |= s3_server.environment
    for name in ("LAKE", "ARCHIVE", "OBJECT_STORE"):
        dtx.environment[f"DTX_{name}_URL"] = f"s3://{s3_bucket}/{name.lower()}"
    with worker(dtx, "one", "--processes", "2", **{FAILPOINT: POINT, PROOF: str(proof)}) as one, worker(dtx, "two"):
        killer = threading.Thread(target=kill_once_there, args=(one, proof), daemon=True)
        killer.start()
        done = dtx("run")
        logs = "".join((tmp_path / name).read_text(errors="replace")[-3000:] for name in ("one", "two"))
    assert done.returncode == EXIT_CHECK_FAILED, (done.stdout, done.stderr, logs)
    killer.join(PATIENCE)
    assert proof.read_text().startswith(f"{POINT}:1 killed process")
    # What others did is told here.
    assert "load NotificationSchedule: " in done.stdout
    assert "prepare exemption, shard 2 of " in done.stdout
    page = (tmp_path / ".dtx" / "report" / "cutover.html").read_text("utf-8")
    shards = re.findall(r"prepare exemption, (shard \d+ of \d+): ", done.stdout)
    table = page[page.index("Steps that were done in shards") :].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">prepare exemption</th>.*?</tr>', table)
    assert len(rows) == len(set(shards)) > 1
    url = dtx.environment["DTX_TARGET_URL"]
    with psycopg.connect(url) as connection:
        [(status, ended)] = connection.execute("SELECT status, finished_at IS NOT NULL FROM migration.run").fetchall()
        killed = connection.execute("SELECT target_table FROM migration.load WHERE status = 'killed'").fetchall()
        again = connection.execute(
            "SELECT step, count(*), count(ended_at) FROM migration.step_attempt GROUP BY step HAVING count(*) > 1"
        ).fetchall()
        workers = connection.execute(
            "SELECT count(DISTINCT split_part(worker, '/', 1)) FROM migration.step_attempt"
        ).fetchone()
    assert (status, ended) == ("succeeded", True)
    # The parent that is killed too may have another load going.
    assert 1 <= len(killed) <= 2
    assert 1 <= len(again) <= 2
    assert all(times == ends + 1 == 2 for _, times, ends in again), again
    assert any(step.startswith("dtx_load_") for step, _, _ in again)
    assert workers == (2,)
    with ExitStack() as stack:
        name = "sample_in_one_process"
        undisturbed = as_new(postgres_server.create_database(name))
        stack.callback(postgres_server.drop_database, name)
        place = {"TARGET_URL": undisturbed, "CUTOVER_AT": CUTOVER_AT, "BATCH_ROWS": BATCH_ROWS}
        alone = Command(tmp_path / "alone", {f"DTX_{name}": value for name, value in place.items()})
        alone.directory.mkdir()
        assert alone("run").returncode == EXIT_CHECK_FAILED
        assert first_differences(target_state(undisturbed), target_state(url)) == []


def test_a_run_without_workers_fails_with_words(by_workers):
    done = by_workers("run", "--select", "target/ManualOverride", DTX_WORKER_SECONDS="15")
    assert done.returncode == EXIT_STEP_FAILED, done.stdout + done.stderr
    assert "no worker has taken steps from the queue dtx-" in done.stdout
    assert "dtx worker dtx" in done.stdout


def test_a_run_without_a_broker_fails_with_words_and_without_its_password(by_workers):
    done = by_workers("run", "--select", "target/ManualOverride", DTX_BROKER_URL="amqp://tests:geheim@127.0.0.1:1//")
    assert done.returncode == EXIT_STEP_FAILED, done.stdout + done.stderr
    assert "the broker cannot be reached" in done.stdout
    assert "geheim" not in done.stdout + done.stderr


def test_what_is_one_machines_is_refused_with_all_reasons_before_a_run_begins(by_workers):
    done = by_workers("run", DTX_SHARED="", DTX_LAKE_URL="s3://bucket/lake")
    assert done.returncode == EXIT_USAGE
    said = done.stderr
    for reason in (
        "the target is on a machine's own address: postgresql://",
        "the archive is in a directory:",
        "the object store is in a directory:",
        "the legacy tables are in a directory:",
        "the legacy files are in a directory:",
        "the history of runs is in a directory:",
    ):
        assert f"- {reason}" in said, said
    assert "the lake" not in said
    embedded = by_workers("run", DTX_TARGET_URL="", DTX_LAKE_URL="s3://bucket/lake")
    assert embedded.returncode == EXIT_USAGE
    assert "- the target is the embedded PostgreSQL" in embedded.stderr
    assert embedded.stderr.count("    - ") == 1
    assert by_workers("runs").returncode == 0


def test_a_worker_is_one_of_celery(by_workers):
    done = by_workers("worker", DTX_EXECUTOR="multiprocess")
    assert done.returncode == EXIT_USAGE
    assert "the executor is multiprocess, which has no workers" in done.stderr
