"""Is there anything to do? What the last batches left, and whether the rows of a part are as they left them."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from dtx_assets.machinery.load.place import Place

XID_HORIZON = 1 << 31
Batches = Mapping[tuple[int, int], Mapping[str, Any]]
"""By range of buckets: digest, witness, clean, age."""


def latest_batches(place: Place) -> dict[tuple[int, int], dict[str, Any]]:
    """The last batch of each range of buckets, unless a later one of another range touched some of them."""
    rows = place.connection.execute(
        "SELECT batch.id, bucket_low, bucket_high, digest, witness, clean,"
        " pg_snapshot_xmax(pg_current_snapshot())::text::bigint - xid::text::bigint AS age"
        " FROM migration.batch JOIN migration.load ON load.id = batch.load_id"
        " WHERE (load.system, load.target_table, load.model) = (%s, %s, %s)"
        " AND undone_at IS NULL ORDER BY batch.id",
        place.of_model,
    ).fetchall()
    latest: dict[tuple[int, int], dict[str, Any]] = {}
    for _, low, high, digest, witness, clean, age in rows:
        latest = {buckets: batch for buckets, batch in latest.items() if buckets[1] < low or buckets[0] > high}
        latest[low, high] = {"digest": digest, "witness": witness, "clean": clean, "age": age}
    return latest


def xmins_of(place: Place) -> dict[str, int]:
    """How many rows of the target carry which xmin. Of one that was committed, the number can only fall."""
    query = sql.SQL("SELECT xmin::text, count(*) FROM {} GROUP BY 1").format(place.table)
    return {str(xmin): int(rows) for xmin, rows in place.connection.execute(query)}


def is_untouched(batches: Batches, buckets: tuple[int, int], digest: str, xmins: Mapping[str, int]) -> bool:
    """Whether a part of this digest is what was written last into its buckets, and nobody wrote there since."""
    batch = batches.get(buckets)
    return batch is not None and bool(
        batch["clean"]
        and batch["digest"] == digest
        and batch["age"] < XID_HORIZON
        and all(xmins.get(xmin, 0) == rows for xmin, rows in batch["witness"].items())
    )
