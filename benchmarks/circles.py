"""A circle of two tables, loaded, loaded again, verified and undone: seconds and peak memory of each.

    .venv/bin/python -m benchmarks.circles [--rows 1000000] [--bad 0]

`staff` has the rows, `store` one for a hundred of them; no constraint can be deferred. Every step is a process of its
own against one embedded PostgreSQL. `--bad` of the staff are refused by a CHECK, so that what they take along is looked
for.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

PARTS, STAFF_A_STORE = 20, 100
TABLES = (
    "CREATE TABLE store (id bigint PRIMARY KEY, manager_id bigint NOT NULL, name text NOT NULL)",
    "CREATE TABLE staff (id bigint PRIMARY KEY, store_id bigint NOT NULL REFERENCES store, name text NOT NULL"
    " CHECK (name <> 'bad'))",
    "ALTER TABLE store ADD FOREIGN KEY (manager_id) REFERENCES staff",
    # Else each row that is deleted has the other table looked through.
    "CREATE INDEX ON store (manager_id)",
    "CREATE INDEX ON staff (store_id)",
)


def step(name: str, lake_url: str, url: str, rows: int, bad: int) -> None:
    from dtx_assets.machinery.base.lake import Lake
    from dtx_assets.machinery.load import load_together, open_run, undo_run, verify_target
    from dtx_assets_tests.machinery.load.prepared import SYSTEM
    from dtx_assets_tests.machinery.load.test_circles import CIRCLE, STAFF, prepare

    class Place:
        lake = Lake(lake_url)

    if name == "prepare":
        stores = rows // STAFF_A_STORE
        every = rows // bad if bad else rows + 2
        prepare(
            Place(),  # type: ignore[arg-type]
            {
                "store": [(n, n * STAFF_A_STORE, f"store {n}") for n in range(1, stores + 1)],
                "staff": [
                    (n, (n * 7) % stores + 1, "bad" if n % every == every - 1 else f"somebody {n}")
                    for n in range(1, rows + 1)
                ],
            },
            parts=PARTS,
        )
        return
    started = time.perf_counter()
    if name == "undo":
        undo_run(url, SYSTEM, CIRCLE, "first", with_later=True)
        told: object = None
    elif name == "verify":
        run = open_run(url, SYSTEM, "verify", mode="rehearsal", decisions={})
        told = dict(verify_target(SYSTEM, STAFF, Place.lake, url, run, together=CIRCLE).counts)
    else:
        run = open_run(url, SYSTEM, name, mode="rehearsal", decisions={})
        summaries = load_together(SYSTEM, CIRCLE, Place.lake, url, run)
        told = {model: (one.inserted, one.rejected) for model, one in summaries.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step": name, "seconds": time.perf_counter() - started, "peak_mib": peak, "told": told}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bad", type=int, default=0)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step(*options.step, options.rows, options.bad)
        return
    from dtx_assets.machinery.postgres.embedded import embedded_postgres

    with tempfile.TemporaryDirectory() as directory, embedded_postgres(Path(directory) / "server") as server:
        url = server.create_database("circle")
        with psycopg.connect(url) as connection:
            for statement in TABLES:
                connection.execute(statement.encode())
        for name in ("prepare", "first", "second", "verify", "undo"):
            command = [
                sys.executable,
                "-m",
                "benchmarks.circles",
                "--rows",
                str(options.rows),
                "--bad",
                str(options.bad),
            ]
            subprocess.run([*command, "--step", name, f"{directory}/lake", url], check=True)


if __name__ == "__main__":
    main()
