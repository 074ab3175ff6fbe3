"""What a load or a comparison of a target starts from: its prepared and rejected rows, and what they were made for."""

from collections.abc import Mapping
from copy import copy
from datetime import datetime

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.load.activation import is_activated
from dtx_assets.machinery.load.findings import Findings, LegacyRows
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.load.whole import WholeParts
from dtx_assets.machinery.model.references import refers_to_itself
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.prepare.part import PreparedParts


class PreparedTarget:
    """The prepared parts of a target and the lists about them."""

    def __init__(
        self,
        place: Place,
        lake: Lake,
        prepared: Manifest,
        rejected: Manifest,
        legacy_rows: LegacyRows | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """`whole`: its parts are written in one transaction, as they are where its rows refer to each other."""
        self.place, self.lake, self.prepared, self.legacy_rows = place, lake, prepared, legacy_rows
        parts = PreparedParts(
            lake,
            place.target,
            prepared,
            rejected,
            self._flow_id,
            self._earlier_sources(),
            activated=is_activated(place.connection, place.system, place.target),
            live=place.live,
        )
        whole = whole or refers_to_itself(place.target)
        self.parts: PreparedParts | WholeParts = WholeParts(parts) if whole else parts

    def over(self, connection: Connection) -> "PreparedTarget":
        """The same over another connection; what is read of the parts is shared."""
        other = copy(self)
        other.place = self.place.over(connection)
        return other

    def findings(self, load_id: int) -> Findings:
        """The lists that a load writes to, or that are read for one that is none."""
        return Findings(
            self.place.connection,
            self.place.system,
            self.place.target,
            load_id,
            self.parts.flows,
            self.lake,
            self.prepared.metadata.get("sources", {}),
            self.legacy_rows,
        )

    def _earlier_sources(self) -> list[str]:
        rows = self.place.connection.execute(
            "SELECT source_table FROM migration.flow WHERE (system, target_table, model) = (%s, %s, %s) ORDER BY id",
            self.place.of_model,
        )
        return [str(row[0]) for row in rows]

    def _flow_id(self, source_table: str) -> int:
        place = [*self.place.of_model, source_table]
        self.place.connection.execute(
            "INSERT INTO migration.flow (system, target_table, model, source_table) SELECT %s, %s, %s, %s"
            " WHERE NOT EXISTS (SELECT 1 FROM migration.flow"
            " WHERE (system, target_table, model, source_table) = (%s, %s, %s, %s)) ON CONFLICT DO NOTHING",
            [*place, *place],
        )
        return self.place.number(
            "SELECT id FROM migration.flow WHERE (system, target_table, model, source_table) = (%s, %s, %s, %s)", place
        )


def check_preparation(run: RunContext, prepared: Manifest, rejected: Manifest) -> None:
    """StructureError where the prepared rows were made for another run than this one."""
    facts, where = prepared.metadata, "/".join(prepared.key)
    remedy = f"materialise {where} again"
    chosen: Mapping[str, str] = facts.get("decisions", {})
    others = sorted(
        key for key in {*chosen, *run.decisions} if chosen.get(key) != run.decisions.get(key) and key in chosen
    )
    if others:
        told = ", ".join(f"{key} = {chosen[key]} instead of {run.decisions.get(key)}" for key in others)
        raise StructureError(f"the rows were prepared under other decisions: {told}", where=where, remedy=remedy)
    cutover_at = facts.get("cutover_at")
    if cutover_at and run.cutover_at and datetime.fromisoformat(cutover_at) != run.cutover_at:
        raise StructureError(
            f"the rows were prepared for {cutover_at}, and this run is for {run.cutover_at.isoformat()}",
            where=where,
            remedy=remedy,
        )
    if facts.get("preparation") != rejected.metadata.get("preparation"):
        raise StructureError(
            "the prepared and the rejected rows come from different preparations", where=where, remedy=remedy
        )
    # Of a junction, one source row has links in several parts.
    linked = prepared.tables["links"].rows if "links" in prepared.tables and not facts.get("is_junction") else 0
    linked -= facts.get("links_not_counted", 0)
    migrated = sum(entry["migrated"] for entry in facts.get("accounting", []))
    if linked > migrated:
        raise StructureError(
            f"{migrated} source rows are accounted for as migrated, and {linked} are linked to target rows",
            where=where,
            remedy="this is a fault of the flow, please report it",
        )
