"""Files of a target's rows that several processes send, before one loads the rows.

A shard is a range of the prepared parts. It sends the files of just those rows that the load would send them for, as
the target is, notes them as a load does, and says last, in one piece, what became of each: one that died said nothing,
and is done again. It writes no row. The load sends what no shard of its run did, and rejects the same rows as ever.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import polars as pl

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.base.lake import Lake, Manifest
from dtx_assets.machinery.base.shard import PLAN, SHARDS, Shard, shards_in_all
from dtx_assets.machinery.files.sending import RESULTS, FileSender
from dtx_assets.machinery.load.findings import LegacyRows
from dtx_assets.machinery.load.member import Member, Told
from dtx_assets.machinery.load.orphans import settled
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.prepared import PreparedTarget, check_preparation
from dtx_assets.machinery.load.runs import RunContext
from dtx_assets.machinery.load.skip import left_to_load
from dtx_assets.machinery.model.references import refers_to_itself
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import connect, refusals_told
from dtx_assets.machinery.postgres.ddl import require_prepared_for, require_target


def is_sent_by_part(target: TargetTable) -> bool:
    """Whether a target has files, and its parts are loaded one after the other."""
    return target.file_columns is not None and not refers_to_itself(target)


@dataclass(frozen=True)
class Sending:
    """The files of the prepared rows of a target, in one run."""

    system: str
    target: TargetTable
    lake: Lake
    run: RunContext

    def plan(self, shard_files: int) -> list[Shard]:
        """The shards that are left to do before the load; none where it is to send all itself.

        LoadError where the gate is closed: nothing is sent that the load would not send.
        """
        prepared = self._prepared
        parts = [int(part["rows"]) for part in prepared.metadata["parts"]]
        of = min(-(-sum(parts) // shard_files), len(parts)) if shard_files and self.run.subset is None else 1
        before = self.lake.manifest(self._key(PLAN))
        if before is None or not self._is_of_this(before) or before.metadata["shards"] != of:
            self.forget()
            if of < 2:
                return []
            self._require_open_gate()
            with self.lake.write(self._key(PLAN), run_id=self.run.run_id) as writer:
                writer.metadata = {"preparation": prepared.metadata["preparation"], "shards": of}
        return [shard for shard in shards_in_all(of) if self._said(shard) is None]

    def send(
        self, shard: Shard, sender: FileSender, *, overwrite: bool = False, legacy_rows: LegacyRows | None = None
    ) -> None:
        """Sends the files of one shard. LoadError or StructureError where no row is to blame."""
        if self._said(shard) is not None:
            return
        prepared, rejected = self._prepared, self.lake.require((self.system, "rejected", self.target.model))
        check_preparation(self.run, prepared, rejected)
        with ExitStack() as held:
            held.enter_context(refusals_told())
            for manifest in (prepared, rejected):
                held.enter_context(self.lake.lease(manifest, self.run.run_id))
            connection = held.enter_context(connect(self.run.connection_url, loads=self.system))
            live = require_target(connection, self.target, self.run.decisions)
            if self.run.mode == "cutover":
                require_prepared_for(live, self.target, prepared)
            self._require_open_gate()
            place = Place(connection, self.system, self.target, live)
            source = PreparedTarget(place, self.lake, prepared, rejected, legacy_rows)
            said = held.enter_context(self.lake.write(self._key(shard.name), run_id=self.run.run_id))
            said.metadata = {"preparation": prepared.metadata["preparation"]}
            # So that there is one, of whatever shard.
            said.add(pl.DataFrame(schema=RESULTS))
            for part, rows in self._to_be_sent(place, source, shard, overwrite):
                results = sender.results_of(rows)
                reach("shards.files_sent")
                said.add(results, file=_file(part))
            reach("shards.before_done")

    def _to_be_sent(
        self, place: Place, source: PreparedTarget, shard: Shard, overwrite: bool
    ) -> Iterator[tuple[str, pl.DataFrame]]:
        """The rows of each part of a shard that a load would write now, which is what it sends the files of."""
        left = left_to_load(place, source.parts)
        told = Told(0, [], overwrite, first_load=left.first_load, xmins=left.xmins)
        member = Member(place, source.findings(0), told)
        share = shard.batches(len(source.parts.described))
        for number in (number for number in left.numbers if number in share):
            part = source.parts.read(number)
            [fit] = settled([member.orphans], [member.fitting(part)])
            # The numbers that rows get here are not theirs: the load gives them in the order of the parts.
            with place.connection.transaction(force_rollback=True):
                rows = member.decisions.to_be_written(member.numbered(fit))
            if rows.height:
                yield part.name, rows

    def forget(self) -> None:
        """Removes what shards said."""
        plan = self.lake.manifest(self._key(PLAN))
        if plan is not None:
            for shard in shards_in_all(plan.metadata["shards"]):
                self.lake.forget(self._key(shard.name))
            self.lake.forget(plan.key)

    def ahead(self, sender: FileSender) -> "SentAhead":
        """What sends the files that shards did not, and knows what became of the others."""
        plan = self.lake.manifest(self._key(PLAN))
        shards = shards_in_all(plan.metadata["shards"]) if plan and self._is_of_this(plan) else []
        said = [manifest for shard in shards if (manifest := self._said(shard)) is not None]
        files = {entry.name: manifest for manifest in said for entry in manifest.tables["rows"].files}
        return SentAhead(self.lake, files, sender)

    @property
    def _prepared(self) -> Manifest:
        return self.lake.require((self.system, "prepared", self.target.model))

    def _key(self, name: str) -> tuple[str, ...]:
        return (self.system, SHARDS, f"load_{self.target.model}", name)

    def _said(self, shard: Shard) -> Manifest | None:
        said = self.lake.manifest(self._key(shard.name))
        return said if said and self._is_of_this(said) and self.lake.is_complete(said) else None

    def _is_of_this(self, manifest: Manifest) -> bool:
        """Of this run and of the rows as they are prepared: what another run sent is looked at anew."""
        preparation: Any = self._prepared.metadata["preparation"]
        return manifest.run_id == self.run.run_id and bool(manifest.metadata["preparation"] == preparation)

    def _require_open_gate(self) -> None:
        if self.run.gate:
            self.run.gate(self.target.model)


class SentAhead:
    """Sends the files of the rows of a part that no shard has sent (`Send`), from any thread."""

    def __init__(self, lake: Lake, files: dict[str, Manifest], sender: FileSender) -> None:
        self.lake, self._files, self.sender = lake, files, sender

    def __call__(self, rows: pl.DataFrame, part: str) -> pl.DataFrame:
        manifest = self._files.get(f"{_file(part)}.parquet")
        if manifest is None:
            return self.sender(rows, part)
        same = [self.sender.key, self.sender.sha256]
        done = self.lake.scan_files(manifest, "rows", [f"{_file(part)}.parquet"]).collect()
        done = done.rename({"key": same[0], "sha256": same[1]}).join(rows.select(same), on=same, how="semi")
        self.sender.count(done)
        rest = rows.join(done, on=same, how="anti", maintain_order="left")
        return pl.concat([self.sender.refused(rows, done), self.sender(rest, part)])


def _file(part: str) -> str:
    return f"sent-{part}"
