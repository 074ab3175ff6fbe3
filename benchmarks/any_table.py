"""A table of all common types from MariaDB to PostgreSQL by `dtx init` and `dtx run`, beside pgloader and a pipe.

    .venv/bin/python -m benchmarks.any_table [--rows 1000000]

One server of each kind. The pipe is `mariadb --quick | psql \\copy` of the same columns into the same table; pgloader
(Debian; left out where it is not there) makes a table of its own. The load alone is what the steps extract, prepare and
load of the run took by themselves; the whole run has bookkeeping, checks, archive and verification in it.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dtx_assets_tests import servers

DTX = Path(sys.executable).with_name("dtx")
SYSTEM = "bench"
STEPS = {"extract": "extraction", "prepare": "prepare_contract", "load": "load_Contract"}
"""The steps of a run that a copy has too, as Dagster calls them."""
LEGACY = """
CREATE TABLE contract (
    id bigint PRIMARY KEY, name varchar(80) NOT NULL, note text, amount decimal(12,2) NOT NULL, rate double,
    quantity int, grade smallint, is_active tinyint(1) NOT NULL, code char(8), start_date date, start_time time,
    created_at datetime(6) NOT NULL, kind enum('new','renewed','ended'), payload varbinary(40), reference varchar(20)
)
"""
ROWS = """
INSERT INTO contract
SELECT seq, CONCAT('Contract no. ', seq), IF(seq % 7, CONCAT('Signed by party ', seq % 977, ', to be renewed'), NULL),
    seq % 1000003 / 7, seq / 3, seq % 5000, seq % 9, seq % 2, LPAD(HEX(seq), 8, '0'),
    DATE_ADD('1999-01-01', INTERVAL seq % 9000 DAY), SEC_TO_TIME(seq % 86400),
    DATE_ADD('2001-01-01', INTERVAL seq * 37 SECOND), ELT(1 + seq % 3, 'new', 'renewed', 'ended'),
    UNHEX(MD5(seq)), IF(seq % 3, CONCAT('R-', seq), NULL)
FROM seq_1_to_{rows}
"""
TARGET = """
CREATE TABLE contract (
    id bigint PRIMARY KEY, name varchar(80) NOT NULL, note text, amount numeric(12,2) NOT NULL, rate double precision,
    quantity integer, grade smallint, is_active boolean NOT NULL, code varchar(8), start_date date, start_time time,
    created_at timestamp NOT NULL, kind text, payload bytea, reference varchar(20)
);
"""
PIPED = (
    "SELECT id, name, note, amount, rate, quantity, grade, is_active, code, start_date, start_time, created_at, kind,"
    " CONCAT('\\\\x', HEX(payload)), reference FROM contract"
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    options = arguments.parse_args()
    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        (directory / "mariadb").mkdir()
        with (
            servers.mariadb(directory / "mariadb") as legacy_url,
            embedded_postgres(directory / "state") as server,
        ):
            engine = sa.create_engine(legacy_url)
            with engine.begin() as connection:
                connection.execute(sa.text(LEGACY))
                connection.execute(sa.text(ROWS.format(rows=options.rows)))
            engine.dispose()
            measure(options.rows, legacy_url, server, directory)


def measure(rows: int, legacy_url: str, server: object, directory: Path) -> None:
    def fresh(name: str, *, table: bool = True) -> str:
        url: str = server.create_database(name)  # type: ignore[attr-defined]
        if table:
            with psycopg.connect(url) as connection:
                connection.execute(TARGET)  # type: ignore[arg-type]
        return url

    target = fresh("dtx")
    (directory / "target.sql").write_text(TARGET)
    environment = os.environ | {
        "BENCH_LEGACY_URL": legacy_url,
        "BENCH_TARGET_URL": target,
        "BENCH_HOME": str(directory / "home"),
        "BENCH_DECISIONS": "",
    }
    run_quietly([str(DTX), "init", SYSTEM, "--target", str(directory / "target.sql")], directory, environment)
    first = timed_run(directory, environment)
    written = count(target)
    if written != rows:
        raise SystemExit(f"{written:,} of {rows:,} rows were written; see `dtx status` in {directory}")
    taken = seconds_of_steps(directory / "home", SYSTEM)
    alone = {what: taken[step] for what, step in STEPS.items()}
    second = timed_run(directory, environment)

    piped = pipe(legacy_url, fresh("pipe"))
    loaded = pgloader(legacy_url, fresh("pgloader", table=False), directory)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{rows:,} rows of 15 columns, MariaDB to PostgreSQL")
    steps = ", ".join(f"{step} {seconds:.1f}" for step, seconds in alone.items())
    told("extract, prepare, load", rows, sum(alone.values()), f"({steps})")
    told("the whole run", rows, first, "with start, archive, checks, bookkeeping, verification")
    told("pipe, mariadb | psql", rows, piped)
    if loaded is not None:
        told("pgloader", rows, loaded)
    print(f"of the pipe's rate {piped / sum(alone.values()):5.2f} alone, {piped / first:.2f} as a whole (reach 0.7)")
    print(f"second run, nothing changed {second:6.1f} s")
    print(f"peak memory of a run, of pgloader or of the pipe {peak:,.0f} MiB (under 400)")


def told(what: str, rows: int, seconds: float, more: str = "") -> None:
    print(f"{what:26} {seconds:6.1f} s  {rows / seconds:9,.0f} rows/s  {more}")


def timed_run(directory: Path, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    run_quietly([str(DTX), "run", SYSTEM], directory, environment, allowed=(0, 3))
    return time.perf_counter() - started


def run_quietly(
    command: list[str], directory: Path, environment: dict[str, str], *, allowed: tuple[int, ...] = (0,)
) -> None:
    done = subprocess.run(command, check=False, cwd=directory, env=environment, capture_output=True, text=True)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def seconds_of_steps(home: Path, system: str) -> dict[str, float]:
    """How long the steps of the last run took by themselves, called without their system."""
    from dtx_assets.machinery.dagster.run import open_instance

    with open_instance(home) as instance:
        [record] = instance.get_run_records(limit=1)
        return {
            stats.step_key.removeprefix(f"{system}_"): stats.end_time - stats.start_time
            for stats in instance.get_run_step_stats(record.dagster_run.run_id)
            if stats.start_time and stats.end_time
        }


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        return int(connection.execute("SELECT count(*) FROM contract").fetchone()[0])  # type: ignore[index]


def pipe(legacy_url: str, target_url: str) -> float:
    """Seconds of the client's unbuffered output into a \\copy; the clients get their passwords by the environment."""
    legacy, target = make_url(legacy_url), make_url(target_url)
    reader = [servers.find_program("mariadb"), "--quick", "--batch", "--skip-column-names", "--host=127.0.0.1"]
    reader += [f"--port={legacy.port}", f"--user={legacy.username}", str(legacy.database), f"--execute={PIPED}"]
    writer = [servers.find_program("psql"), "--quiet", "--host=127.0.0.1", f"--port={target.port}"]
    writer += [f"--username={target.username}", f"--dbname={target.database}"]
    writer += ["--command=\\copy contract FROM STDIN WITH (NULL 'NULL')"]
    started = time.perf_counter()
    with subprocess.Popen(
        reader, stdout=subprocess.PIPE, env=os.environ | {"MYSQL_PWD": str(legacy.password)}
    ) as reading:
        subprocess.run(writer, stdin=reading.stdout, check=True, env=os.environ | {"PGPASSWORD": str(target.password)})
    return time.perf_counter() - started


def pgloader(legacy_url: str, target_url: str, directory: Path) -> float | None:
    """Seconds of pgloader's own copy of the table; None where it is not installed."""
    program = shutil.which("pgloader")
    if not program:
        print("pgloader is not installed and left out", file=sys.stderr)
        return None
    legacy = make_url(legacy_url).set(drivername="mysql").render_as_string(hide_password=False)
    target = make_url(target_url).set(drivername="postgresql").render_as_string(hide_password=False)
    script = directory / "contract.load"
    script.touch(mode=0o600)
    script.write_text(f"LOAD DATABASE FROM {legacy} INTO {target} WITH include drop, create tables, no truncate;\n")
    started = time.perf_counter()
    run_quietly([program, str(script)], directory, dict(os.environ))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
