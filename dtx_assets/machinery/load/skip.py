"""Is there anything to do? What the last batches left, and whether the rows of a part are as they left them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from dtx_assets.machinery.load.place import Place

if TYPE_CHECKING:
    from dtx_assets.machinery.load.whole import WholeParts
    from dtx_assets.machinery.prepare.part import PreparedParts

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


@dataclass(frozen=True)
class Left:
    """What is left to load of a target: the numbers of the parts, and what that was found by."""

    batches: Batches
    first_load: bool
    """Whether nothing was ever loaded."""
    xmins: dict[str, int] | None
    numbers: list[int]


def left_to_load(place: Place, parts: "PreparedParts | WholeParts", *, looks: bool = False) -> Left:
    """The parts that are not known to be there as they are prepared; where it `looks` at each of them, all."""
    batches = latest_batches(place)
    first_load = not batches and not _has_entries(place, list(parts.flows.values()))
    xmins = None if first_load else xmins_of(place)
    numbers = [
        number
        for number, part in enumerate(parts.described)
        if looks or not is_untouched(batches, tuple(part["buckets"]), parts.digest(number), xmins or {})
    ]
    return Left(batches, first_load, xmins, numbers)


def _has_entries(place: Place, flows: list[int]) -> bool:
    return bool(
        place.number(
            "SELECT count(*) FROM (SELECT 1 FROM migration.mapping_entry WHERE flow_id = ANY(%s) LIMIT 1) AS found",
            [flows],
        )
    )


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
