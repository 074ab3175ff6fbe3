"""The cutover page with many rejected rows: seconds to ask the database, to gather and to render, and its size.

    .venv/bin/python benchmarks/cutover_page.py [--rejected 100000]

The bookkeeping is filled by SQL, with details that are nearly all different, which is the worst case.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from dtx_assets.dtx.definitions import SYSTEM, defs
from dtx_assets.machinery.dagster.run import open_instance
from dtx_assets.machinery.load.runs import prepare_bookkeeping
from dtx_assets.machinery.postgres.connection import connect
from dtx_assets.machinery.postgres.embedded import embedded_postgres, remove_embedded_postgres
from dtx_assets.machinery.report import gather, write_page
from dtx_assets.machinery.report.figures import read_figures

FILL = """
INSERT INTO migration.run (run_id, system, mode, status, finished_at, decisions)
    VALUES ('r', 'dtx', 'rehearsal', 'succeeded', now(), '{}');
INSERT INTO migration.flow (system, source_table, target_table, model)
    VALUES ('dtx', 'letter', 'docutrax_utils_emailtemplate', 'EmailTemplate'),
        ('dtx', 'notification', 'docutrax_utils_notificationschedule', 'NotificationSchedule');
INSERT INTO migration.load (run_id, system, target_table, model, preparation, status, counts)
    SELECT 'r', 'dtx', target_table, model, '', 'succeeded', '{}' FROM migration.flow;
INSERT INTO migration.accounting_entry (run_id, flow_id, read, migrated, rejected, dropped, coerced)
    SELECT 'r', id, 500000, 500000 - %(rows)s / 2, %(rows)s / 2, '{}', '{}' FROM migration.flow;
INSERT INTO migration.rejected_entry (opened_by, flow_id, bucket, partial, found_by_load, occurrence, hash, source_key,
    reasons, detail, "row")
SELECT load.id, flow.id, n %% 64, false, false, 0, n, n::text,
    CASE n %% 4 WHEN 0 THEN ARRAY['unparseable'] WHEN 1 THEN ARRAY['orphan_reference']
        WHEN 2 THEN ARRAY['orphan_reference', 'unparseable'] ELSE ARRAY['duplicate_key'] END,
    'customer_id: ' || n || ' has no match in the crosswalk account',
    jsonb_build_object('customer_id', n, 'type', 'COI', 'letter_body', repeat('Dear Anna Smith, ', 60))
FROM generate_series(1, %(rows)s) AS n
JOIN migration.flow ON flow.id = 1 + n %% 2
JOIN migration.load USING (system, target_table, model);
ANALYZE;
"""


@contextmanager
def timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what:<10} {time.perf_counter() - started:6.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rejected", type=int, default=100_000)
    rows = parser.parse_args().rejected
    with tempfile.TemporaryDirectory(prefix="dtx-page-") as name:
        home = Path(name)
        home.chmod(0o711)
        with embedded_postgres(home / "state", fsync=False) as server:
            url = server.create_database("dtx")
            with connect(url) as connection:
                prepare_bookkeeping(connection)
            with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
                connection.execute(FILL, {"rows": rows})
            graph = defs.resolve_asset_graph()
            print(f"{rows:,} rejected rows")
            with timed("all"), open_instance(home / "state") as instance:
                with timed("ask"):
                    figures = read_figures(url, "dtx")
                with timed("gather"):
                    report = gather(SYSTEM, graph, instance, figures, [], now=datetime.now(UTC))
                with timed("render"):
                    page = write_page(report, home / "cutover.html")
            print(f"{'page':<10} {page.stat().st_size / 1024:6.0f} KiB")
        remove_embedded_postgres(home / "state")


if __name__ == "__main__":
    main()
