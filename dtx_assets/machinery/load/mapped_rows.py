"""The rows of a target that its mapping leads to, part by part, as a verification compares them; nothing is written."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Lock
from typing import TypeVar

import polars as pl
from psycopg import sql

from dtx_assets.machinery.files.stored import StoredFiles
from dtx_assets.machinery.load.current import CurrentRows
from dtx_assets.machinery.load.identity import Ids
from dtx_assets.machinery.load.inserts import insert_fates
from dtx_assets.machinery.load.orphans import Orphans, settled
from dtx_assets.machinery.load.ownership import yields_of
from dtx_assets.machinery.load.prepared import PreparedTarget
from dtx_assets.machinery.load.refusals import ORPHAN
from dtx_assets.machinery.load.sent_files import sent_before
from dtx_assets.machinery.load.units import update_fates
from dtx_assets.machinery.model.references import refers_to_itself
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.content import copy_out
from dtx_assets.machinery.postgres.digests import NO_ROWS, RowsDigest
from dtx_assets.machinery.prepare.part import SOURCE_KEY, Part, without_violations

Given = TypeVar("Given")
Made = TypeVar("Made")
IDS = pl.Schema({"_id": pl.Int64()})


@dataclass(frozen=True)
class MappedPart:
    """A part of the prepared rows, with what the mapping and the target hold of it."""

    part: Part
    stored: pl.DataFrame
    current: pl.DataFrame
    led_to: RowsDigest = NO_ROWS
    """The keys of the rows that the mapping leads to, where they are counted."""

    def fates(self, target: TargetTable) -> pl.DataFrame:
        yields = yields_of(self.part.links)
        if target.writes == "insert":
            rows = self.part.comparable
            return insert_fates(target, self.part.columns, rows, yields, self.stored, self.current, overwrite=False)
        rows = self.part.rows
        return update_fates(self.part.columns, rows, yields, self.stored, self.current, overwrite=False).fates


def can_be_shared(sources: Sequence[PreparedTarget]) -> bool:
    """Whether several connections can look at the parts of a target: none gives numbers, or needs other targets."""
    place = sources[0].place
    target, key = place.target, place.key
    if len(sources) > 1 or refers_to_itself(target):
        return False
    numbers_are_found = target.writes == "insert" and (not target.key_is_written or key.is_printed_in_one_way)
    return key.is_number or numbers_are_found


class _Session:
    """What looks at the target over one connection, for one thread at a time."""

    def __init__(self, sources: Sequence[PreparedTarget], *, are_counted: bool) -> None:
        self.sources, self.place, self.are_counted = sources, sources[0].place, are_counted
        self.lock = Lock()
        self.findings = sources[0].findings(0)
        self.current, self.ids = CurrentRows(self.place), Ids(self.place)
        together = [source.place.target for source in sources]
        self.orphans = [Orphans(source.place, {}, together) for source in sources]

    def mapped(self, part: Part, *, gives_numbers: bool = True) -> MappedPart | None:
        """A part with the rows that the mapping leads to: where all is well there are no others.

        None where keys have no number yet, and none are to be given.
        """
        place = self.place
        with self.lock:
            part = self._settled(without_violations(place.connection, place.target, place.live, part))
            if place.target.writes != "insert":
                return self._found(self.ids.numbered(part))
            here = self._found(part)
            numbered = (self.ids.numbered if gives_numbers else self.ids.numbered_by)(part, here.current)
            return replace(here, part=numbered) if numbered is not None else None

    def _settled(self, part: Part) -> Part:
        """The part without the orphans that a load would find."""
        if not self.orphans[0].own:
            return settled(self.orphans, [part])[0]
        parts = [part]
        for source in self.sources[1:]:
            place = source.place
            [other] = [source.parts.read(number) for number in range(len(source.parts.described))]
            parts.append(without_violations(place.connection, place.target, place.live, other))
        absent = [
            part.rows.filter(pl.col("_row").is_in(_refused(source, part, orphans=False).implode())).select(
                source.place.target.key
            )
            for source, part in zip(self.sources, parts, strict=True)
        ]
        return settled(self.orphans, parts, absent)[0]

    def _found(self, part: Part) -> MappedPart:
        with self.place.connection.transaction(force_rollback=True):
            stored = self.findings.links(part)
            current = self.current.of_part(part, stored, keys=part.rows.head(0), counted=self.are_counted)
            return MappedPart(part, stored, current, self.current.led_to)


class MappedRows:
    """All of a target. Its parts are looked at over several connections at once; all else over the first."""

    def __init__(
        self,
        sources: Sequence[PreparedTarget],
        files: StoredFiles | None,
        *,
        are_counted: bool,
        beside: Sequence[Connection] = (),
    ) -> None:
        """`sources`: the target, and those that it is loaded together with.

        `beside`: connections, each in a transaction that sees what that of the target sees.
        """
        self.sources, self.place, self.files = sources, sources[0].place, files
        self.are_counted = are_counted and self.place.target.writes == "insert"
        self.first = _Session(sources, are_counted=self.are_counted)
        self.beside = [
            _Session([source.over(connection) for source in sources], are_counted=self.are_counted)
            for connection in beside
        ]

    def parts(self) -> Iterator[MappedPart]:
        """All parts of the target, in their order, with the rows that the mapping leads to."""
        of_target = self.sources[0].parts
        # While a part is compared, the database gives the next ones, and the one after them is read from the lake.
        read = _ahead(of_target.read, iter(range(len(of_target.described))), 1)
        idle: SimpleQueue[_Session] = SimpleQueue()
        for session in (self.first, *self.beside):
            idle.put(session)

        def mapped(part: Part) -> MappedPart:
            session = idle.get()
            try:
                found = session.mapped(part, gives_numbers=session is self.first)
            finally:
                idle.put(session)
            # Two transactions that gave numbers would wait for each other.
            found = found or self.first.mapped(part)
            assert found is not None
            return found

        return _ahead(mapped, read, 1 + len(self.beside))

    def of_keys(self, here: MappedPart, numbers: pl.Series) -> MappedPart:
        """The same part with the rows that have the natural keys of some of its rows, by their numbers, as well."""
        keys = here.part.rows.filter(pl.col("_row").is_in(numbers.implode()))
        with self.first.lock, self.place.connection.transaction(force_rollback=True):
            found = self.first.current.of_part(here.part, here.stored, ids=pl.DataFrame(schema=IDS), keys=keys)
        return replace(here, current=pl.concat([here.current, found]).unique("_id", maintain_order=True))

    def refused(self, part: Part) -> set[int]:
        """The numbers of those rows of a part whose legacy rows a load rejected, wholly or some of their rows."""
        with self.first.lock:
            return set(_refused(self.sources[0], part))

    def note_files(self, rows: pl.DataFrame) -> None:
        """Has the files of rows compared: `key`, `sha256`, `size`, and where they come from and are."""
        if self.files is None or rows.is_empty():
            return
        with self.first.lock:
            sent = sent_before(self.place.connection, self.place.target.name, rows.get_column("key"))
        wanted = rows.join(sent, on=["key", "sha256"], how="left", maintain_order="left")
        self.files.add(wanted.with_columns(pl.col("e_tags").fill_null([])))

    def files_of_extra(self, rows: pl.DataFrame) -> None:
        """The same of rows that nothing gives any more: their files, where a run sent them, are theirs still."""
        place = self.place
        if self.files is None or place.target.file_columns is None or rows.is_empty():
            return
        key = place.key
        query = sql.SQL("SELECT {number}, {}, {} FROM {} AS t{} WHERE {} AND {number} = ANY (%s)").format(
            *map(sql.Identifier, place.target.file_columns), place.table, key.beside, key.same, number=key.number
        )
        schema = {"target_id": pl.Int64(), "key": pl.String(), "sha256": pl.String()}
        there = pl.DataFrame(
            place.connection.execute(query, [rows.get_column("target_id").to_list()]).fetchall(), schema, orient="row"
        )
        sent = sent_before(place.connection, place.target.name, there.get_column("key"))
        wanted = there.join(sent, on=["key", "sha256"]).join(rows, on="target_id")
        self.files.add(wanted.with_columns(pl.lit(None, pl.Int64).alias("size")))


def _refused(source: PreparedTarget, part: Part, *, orphans: bool = True) -> pl.Series:
    """The numbers of those rows of a part whose legacy rows a load rejected, as orphans too or by themselves alone."""
    by_themselves = sql.SQL(" AND NOT partial AND {} <> ALL (reasons)").format(sql.Literal(ORPHAN))
    listed = copy_out(
        source.place.connection,
        sql.SQL(
            "SELECT flow_id, source_key FROM migration.rejected_entry WHERE closed_by IS NULL AND found_by_load"
            " AND flow_id = ANY ({}::smallint[]){}"
        ).format(sql.Literal(list(source.parts.flows.values())), sql.SQL("") if orphans else by_themselves),
        SOURCE_KEY,
    )
    return part.links.join(listed, on=SOURCE_KEY.names(), how="semi").get_column("rows").explode()


def _ahead(make: Callable[[Given], Made], given: Iterator[Given], workers: int) -> Iterator[Made]:
    """What is made of each, in their order, by so many threads: one more than are used is made or waits."""
    with ThreadPoolExecutor(workers, "verify") as threads:
        coming: list[Future[Made]] = []
        for each in given:
            coming.append(threads.submit(make, each))
            if len(coming) > workers:
                yield coming.pop(0).result()
        for future in coming:
            yield future.result()
