"""What an earlier verification rested on, and what it found: where nothing of it changed, that holds still.

Rows, mapping and refusals are read whole by the server, as they are now, and go into a digest each. Nothing that notes
changes is trusted, so that whoever wrote what, by hand too, shows.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl
from psycopg import sql

from dtx_assets.machinery.base.digests import digest_of_files
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.prepared import PreparedTarget
from dtx_assets.machinery.load.verification import Verification
from dtx_assets.machinery.postgres.digests import digest_of, row_digest

LAYER = "verified"
COUNTS = ("rows", "owned_by_others", "refused")
"""What of a clean verification is not zero."""
COMPARING = tuple(Path(__file__).parents[1] / package for package in ("load", "postgres", "prepare"))
"""The packages that say what a verification finds: where they change, all is compared by value again."""
OF_FLOWS = "WHERE flow_id = ANY ({flows}::smallint[])"
BOOKKEEPING = {
    "entries": f"migration.mapping_entry AS entry {OF_FLOWS}",
    "rejected": f"migration.rejected_entry AS entry {OF_FLOWS}",
    "batches": (
        "migration.batch AS entry JOIN migration.load ON load.id = entry.load_id"
        " WHERE (load.system, load.target_table, load.model) = ({system}, {name}, {model})"
    ),
    "numbers": "migration.target_row AS entry WHERE target_table = {name}",
}
"""What a verification reads of the bookkeeping of a target."""


class VerifiedBefore:
    """The last clean verification of a target in this lake, beside what is there now; `sources` as it has them."""

    def __init__(self, lake: Lake, run_id: str, sources: Sequence[PreparedTarget]) -> None:
        place = sources[0].place
        self.lake, self.run_id, self.sources = lake, run_id, sources
        self.key = (place.system, LAYER, place.target.model)

    def found(self) -> Verification | None:
        """What it found, where everything is as it was; None where anything differs."""
        manifest = self.lake.manifest(self.key)
        # The rows are read where the rest is equal alone.
        if manifest is None or not self.lake.is_complete(manifest) or manifest.metadata["prepared"] != self.prepared:
            return None
        if manifest.metadata["stored"] != self.stored:
            return None
        counts = self.lake.scan(self.key, manifest=manifest).collect().row(0, named=True)
        return Verification(compared_in=manifest.run_id, **counts)

    def note(self, found: Verification) -> None:
        """Keeps a verification that found nothing wrong, made in the transaction in which `stored` is read."""
        with self.lake.write(self.key, run_id=self.run_id) as writer:
            writer.metadata = {"prepared": self.prepared, "stored": self.stored}
            writer.add(pl.DataFrame({name: [getattr(found, name)] for name in COUNTS}))

    @cached_property
    def prepared(self) -> dict[str, Any]:
        """What is compared with the rows of the target, and how."""
        parts = [source.parts for source in self.sources]
        return {
            "code": _digest_of_code(),
            "parts": [[each.digest(number) for number in range(len(each.described))] for each in parts],
            "flows": [each.flows for each in parts],
            "live": [str(_live(source.place)) for source in self.sources],
        }

    @cached_property
    def stored(self) -> list[dict[str, list[int]]]:
        """Of each target how many rows are stored, and of its bookkeeping, with the digest of all of them."""
        return [{"rows": _digest_of_rows(source.place), **_digests_of_bookkeeping(source)} for source in self.sources]


def _digest_of_rows(place: Place) -> list[int]:
    """With all that they hold, whoever writes it."""
    digest = digest_of(place.connection, row_digest("t"), sql.SQL("{} AS t").format(place.table))
    return [digest.rows, digest.total]


def _digests_of_bookkeeping(source: PreparedTarget) -> dict[str, list[int]]:
    place = source.place
    names = dict(zip(("system", "name", "model"), map(sql.Literal, place.of_model), strict=True))
    found = {}
    for what, rows in BOOKKEEPING.items():
        flows = sql.Literal(list(source.parts.flows.values()))
        of_rows = digest_of(place.connection, row_digest("entry"), sql.SQL(rows).format(flows=flows, **names))
        found[what] = [of_rows.rows, of_rows.total]
    return found


def _live(place: Place) -> list[Any]:
    live = place.live
    unique_keys = sorted((sorted(key), equal) for key, equal in live.unique_keys)
    return [live.oid, live.kind, sorted(live.columns.items()), unique_keys]


@cache
def _digest_of_code() -> str:
    return digest_of_files(sorted(file for package in COMPARING for file in package.rglob("*.py")))
