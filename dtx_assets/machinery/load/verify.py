"""Does a target hold what the mapping says it should? Every row is compared by value; nothing is written or skipped.

What others own is left out: rows that this system did not write, and of rows of others all but what its units fill.
Where files belong to the rows, the store has to hold each of them as it was sent: `files.stored` compares them.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import polars as pl
import psycopg
from psycopg import sql

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.files.stored import StoredFiles
from dtx_assets.machinery.load.entries import LED_TO
from dtx_assets.machinery.load.identity import FIRST_AND_LAST
from dtx_assets.machinery.load.mapped_rows import MappedPart, MappedRows, can_be_shared
from dtx_assets.machinery.load.ownership import DELETED, KEY_TAKEN, MISSING, THEIRS, identity_of, yields_of
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.prepared import PreparedTarget, check_preparation
from dtx_assets.machinery.load.relink import given_by
from dtx_assets.machinery.load.runs import RunContext, is_loaded_by, prepare_bookkeeping
from dtx_assets.machinery.load.samples import Sample, with_keys
from dtx_assets.machinery.load.verification import Fault, Verification
from dtx_assets.machinery.load.verified_before import VerifiedBefore
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told
from dtx_assets.machinery.postgres.content import copy_out, python_rows
from dtx_assets.machinery.postgres.ddl import require_target
from dtx_assets.machinery.postgres.digests import NO_ROWS, RowsDigest, digest_of

PUT_BACK: dict[Fault, str] = {
    "files_lost": "put it back, from the legacy files or a backup of the store",
    "files_changed": "find out who replaced it, and put back what has the SHA-256 that should be",
}
ONE_STATE = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
DOUBLED = "an equal row that this system did not write"
NOT_MAPPED = "this system wrote it, and nothing gives it any more"
NEVER_LOADED = "the mapping gives it, and it was not loaded"


def verify_target(
    system: str,
    target: TargetTable,
    lake: Lake,
    connection_url: str,
    run: RunContext,
    *,
    progress: Callable[[int, int], None] | None = None,
    files: StoredFiles | None = None,
    together: Sequence[TargetTable] = (),
) -> Verification:
    """Compare a target with its prepared rows, in a transaction that is rolled back; what `load_target` raises.

    In a rehearsal that loaded it, what was compared by value before and did not change is found by digests.
    `files`: the store in which the files of its rows are, where there are any; LoadError where it cannot be asked.
    `together`: the targets that it is loaded together with: which of its rows are orphans shows in all of them.
    """
    targets = [target, *(other for other in together if other.model != target.model)]
    with ExitStack() as held:
        held.enter_context(refusals_told())
        datasets = []
        for each in targets:
            dataset = lake.require((system, "prepared", each.model)), lake.require((system, "rejected", each.model))
            check_preparation(run, *dataset)
            for manifest in dataset:
                held.enter_context(lake.lease(manifest, run.run_id))
            datasets.append(dataset)
        connection = held.enter_context(connect(connection_url))

        def sources() -> list[PreparedTarget]:
            prepare_bookkeeping(connection)
            return [
                PreparedTarget(
                    Place(connection, system, each, require_target(connection, each, run.decisions)),
                    lake,
                    *dataset,
                    whole=len(targets) > 1,
                )
                for each, dataset in zip(targets, datasets, strict=True)
            ]

        # Where files are compared too, no digest says how they are.
        by_digests = files is None
        # Whoever verifies alone, or cuts over, has all rows compared.
        knows_earlier = by_digests and run.mode == "rehearsal" and is_loaded_by(connection, run, target)
        compare = partial(_verified, connection, sources, run, lake, files, progress)
        try:
            found = compare(by_digests=by_digests, knows_earlier=knows_earlier)
        except (psycopg.errors.UndefinedFunction, psycopg.errors.SerializationFailure):
            # A type without a binary form; or somebody wrote what a first look at the bookkeeping writes.
            found = compare(by_digests=False, knows_earlier=False)
    if files:
        # Reading may take long, and no transaction of the target waits for it.
        _note_files(target, files, found)
    return found


def _verified(
    connection: Connection,
    sources_of_target: Callable[[], list[PreparedTarget]],
    run: RunContext,
    lake: Lake,
    files: StoredFiles | None,
    progress: Callable[[int, int], None] | None,
    *,
    by_digests: bool,
    knows_earlier: bool,
) -> Verification:
    """`by_digests`: rows that nothing leads to show in digests of keys; `knows_earlier`: what was verified before may
    show in those of rows."""
    with ExitStack() as held:
        held.enter_context(connection.transaction(force_rollback=True))
        if knows_earlier:
            # What is compared and what its digest is made of are the same rows, whoever writes meanwhile.
            connection.execute(ONE_STATE)
        sources = sources_of_target()
        earlier = VerifiedBefore(lake, run.run_id, sources) if knows_earlier else None
        if earlier and (before := earlier.found()):
            return before
        several = min(run.connections, len(sources[0].parts.described)) if can_be_shared(sources) else 1
        beside = [_beside(held, connection, run.connection_url, one_state=knows_earlier) for _ in range(several - 1)]
        found = _compare_all(MappedRows(sources, files, are_counted=by_digests, beside=beside), progress)
        if earlier and found.is_clean:
            earlier.note(found)
        return found


def _beside(held: ExitStack, connection: Connection, url: str, *, one_state: bool) -> Connection:
    """Another connection in a transaction; in `one_state` with that of `connection`."""
    other = held.enter_context(connect(url))
    held.enter_context(other.transaction(force_rollback=True))
    if one_state:
        [snapshot] = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        other.execute(ONE_STATE)
        other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    return other


def _compare_all(rows: MappedRows, progress: Callable[[int, int], None] | None) -> Verification:
    source, place, found = rows.sources[0], rows.place, Verification()
    total = sum(int(part["rows"]) for part in source.parts.described)
    vanished, led_to = [], NO_ROWS
    for here in rows.parts():
        led_to += here.led_to
        vanished.append(_compare(rows, here, found))
        found.rows += here.part.rows.height
        if progress:
            progress(found.rows, total)
    _note_extra(rows, _not_given_elsewhere(rows, pl.concat(vanished), len(vanished)), found)
    if place.target.writes == "insert" and not (rows.are_counted and led_to == _digest_of_keys(place)):
        _note_unmapped(place, list(source.parts.flows.values()), found)
    found.samples = with_keys(place.connection, place.key, found.samples)
    return found


def _note_files(target: TargetTable, files: StoredFiles, found: Verification) -> None:
    assert target.file_columns is not None
    key, sha256 = target.file_columns
    for fault, row in files.faults():
        kind: Fault = "files_lost" if fault.kind == "lost" else "files_changed"
        there = row["key"] if kind == "files_changed" else None
        columns = ((key, there, row["key"]), (sha256, fault.found, row["sha256"]))
        cause = f"{fault.says}; {PUT_BACK[kind]}"
        found.note(kind, Sample(kind, row["source_key"], row["part"], row["target_id"], cause, columns))
    found.files, found.files_read = files.compared.total(), files.compared["read"]


def _fates(rows: MappedRows, here: MappedPart) -> tuple[MappedPart, pl.DataFrame]:
    """What a load would do with the rows of a part, once those that have their natural keys are looked at too."""
    target = rows.place.target
    fates = here.fates(target)
    if target.writes == "insert" and (target.natural_key or target.key_is_written):
        unlike = fates.filter(pl.col("fate") != "unchanged").get_column("_row")
        if len(unlike):
            here = rows.of_keys(here, unlike)
            fates = here.fates(target)
    return here, fates


def _not_given_elsewhere(rows: MappedRows, vanished: pl.DataFrame, parts: int) -> pl.DataFrame:
    """Of what one part gives no more, that which no other one gives: a source row may have moved to it."""
    if vanished.is_empty() or parts == 1:
        return vanished
    # Read again, which is seldom: what all parts give would take memory with every row.
    identity = identity_of(rows.place.target)
    for here in rows.parts():
        compared, fates = _fates(rows, here)
        given = given_by(yields_of(compared.part.links), fates, compared.stored, identity).yielded
        vanished = vanished.join(given, on=identity, how="anti")
    return vanished


def _compare(rows: MappedRows, here: MappedPart, found: Verification) -> pl.DataFrame:
    """Notes what is lost or changed of a part; gives what is mapped and not yielded."""
    target = rows.place.target
    here, fates = _fates(rows, here)
    part, stored, current = here.part, here.stored, here.current
    wanted = part.comparable if target.writes == "insert" else part.rows
    yields = yields_of(part.links)
    theirs = (pl.col("fate") == "conflict") & pl.col("cause").is_in([THEIRS, KEY_TAKEN])
    found.owned_by_others += fates.filter(theirs).height
    wrong = fates.filter(pl.col("fate").is_in(["insert", "update", "conflict"]) & ~theirs)
    # What was never loaded has no entry in the mapping.
    never_loaded = (pl.col("fate") == "insert") & pl.col("cause").is_null()
    refused = rows.refused(part) if wrong.select(never_loaded.any()).item() else set()
    is_refused = never_loaded & pl.col("_row").is_in(list(refused))
    absent = fates.filter(theirs | is_refused).get_column("_row").to_list()
    found.refused += wrong.filter(is_refused).height
    wrong = wrong.filter(~is_refused)
    places = {row["_row"]: row for row in _of(yields.unique("_row"), "_row", wrong.get_column("_row"))}
    there = {row["_id"]: row for row in _of(current, "_id", wrong.get_column("target_id").drop_nulls())}
    should = {row["_row"]: row for row in _of(wanted, "_row", wrong.get_column("_row"))}
    for fate in wrong.iter_rows(named=True):
        lost = fate["target_id"] is None or fate["cause"] in (DELETED, MISSING) or fate["fate"] == "insert"
        before = there.get(fate["target_id"], {})
        columns = tuple((name, before.get(name), should[fate["_row"]][name]) for name in fate["columns"] or ())
        fault: Fault = "lost" if lost else "changed"
        if lost:
            absent.append(fate["_row"])
        cause = fate["cause"] or (NEVER_LOADED if lost else "the mapping gives other values")
        place = places[fate["_row"]]
        found.note(fault, Sample(fault, place["source_key"], place["part"], fate["target_id"], cause, columns))
    if target.file_columns:
        key, sha256 = target.file_columns
        rows.note_files(
            part.rows.select("_row", pl.col(key).alias("key"), pl.col(sha256).alias("sha256"), size="_size")
            .filter(pl.col("key").is_not_null() & ~pl.col("_row").is_in(absent))
            .join(fates.select("_row", "target_id"), on="_row")
            .join(yields.unique("_row").select("_row", "source_key", "part"), on="_row")
        )
    return given_by(yields, fates, stored, identity_of(target)).vanished


def _of(frame: pl.DataFrame, column: str, values: pl.Series) -> list[dict[str, Any]]:
    return python_rows(frame.filter(pl.col(column).is_in(values.implode())))


def _note_extra(rows: MappedRows, vanished: pl.DataFrame, found: Verification) -> None:
    """What the mapping knows and nothing gives any more, where it is there still."""
    if vanished.is_empty():
        return
    place = rows.place
    ids = vanished.get_column("target_id").unique()
    key = place.key
    query = sql.SQL("SELECT {number} FROM {} AS t{} WHERE {} AND {number} = ANY (%s)").format(
        place.table, key.beside, key.same, number=key.number
    )
    there = {int(row[0]) for row in place.connection.execute(query, [ids.to_list()])}
    rows.files_of_extra(vanished.select("source_key", "part", "target_id").unique("target_id"))
    for key, part, target_id in vanished.select("source_key", "part", "target_id").unique().iter_rows():
        if target_id in there:
            found.note("extra", Sample("extra", key, part, target_id, NOT_MAPPED, ()))
            found.vanished += 1


def _digest_of_keys(place: Place) -> RowsDigest:
    return digest_of(place.connection, place.key.digest, sql.SQL("{} AS t").format(place.table))


def _note_unmapped(place: Place, flows: list[int], found: Verification) -> None:
    """Rows that no entry of the mapping leads to, and that are ours by their id or a copy of one of ours."""
    key, table = place.key, place.table
    if not key.is_number:
        # Mostly there is none, and the others need no number to be known.
        table = sql.Identifier("pg_temp", "unmapped_row")
        place.connection.execute(
            sql.SQL(
                "CREATE TEMPORARY TABLE unmapped_row ON COMMIT DROP AS WITH {mapped} SELECT {columns} FROM {table} AS t"
                " WHERE NOT EXISTS (SELECT FROM migration.target_row AS numbered JOIN _mapped_ids"
                " ON _mapped_ids.id = numbered.no WHERE {same})"
            ).format(
                mapped=_mapped(place, flows),
                columns=sql.SQL(", ").join(sql.Identifier("t", name) for name in key.columns),
                table=place.table,
                same=key.same,
            )
        )
        key.number_rows(place.connection, sql.SQL("{} AS t").format(table))
    unmapped = copy_out(
        place.connection,
        sql.SQL(
            "WITH {mapped} SELECT {number},"
            " (EXISTS (SELECT 1 FROM _made_ids WHERE {number} BETWEEN low AND high))::int"
            " FROM {table} AS t{beside}"
            " WHERE {same} AND NOT EXISTS (SELECT 1 FROM _mapped_ids WHERE _mapped_ids.id = {number})"
        ).format(mapped=_mapped(place, flows), table=table, number=key.number, beside=key.beside, same=key.same),
        pl.Schema({"_id": pl.Int64(), "ours": pl.Int64()}),
    )
    copies = _copies(place, flows, unmapped.filter(pl.col("ours") == 0).get_column("_id"))
    for target_id, ours in unmapped.iter_rows():
        if ours or target_id in copies:
            found.note("extra", Sample("extra", "", "", target_id, NOT_MAPPED if ours else DOUBLED, ()))
        else:
            found.owned_by_others += 1


def _mapped(place: Place, flows: list[int]) -> sql.Composable:
    """The ids that the mapping leads to, and the ranges of those that were ever given."""
    return sql.SQL(
        "_mapped_ids AS (SELECT {led_to} AS id FROM migration.mapping_entry AS entry"
        " WHERE entry.flow_id = ANY ({flows}::smallint[])),"
        " _made_ids AS (SELECT {first_and_last}"
        " FROM (SELECT unnest(batch.inserted_ids) AS ids FROM migration.batch"
        " JOIN migration.load ON load.id = batch.load_id"
        " WHERE (load.system, load.target_table, load.model) = ({system}, {name}, {model})"
        " AND batch.undone_at IS NULL) AS given)"
    ).format(
        led_to=sql.SQL(LED_TO),
        flows=sql.Literal(flows),
        first_and_last=sql.SQL(FIRST_AND_LAST),
        system=sql.Literal(place.system),
        name=sql.Literal(place.target.name),
        model=sql.Literal(place.target.model),
    )


def _copies(place: Place, flows: list[int], ids: pl.Series) -> set[int]:
    """Those of the rows that hold the values of a row that the mapping leads to."""
    if ids.is_empty():
        return set()
    names = [column.name for column in place.target.columns if column.name in place.live.columns]
    values = sql.SQL(", ").join(sql.Identifier("t", name) for name in names)
    rows = place.connection.execute(
        sql.SQL(
            "WITH {mapped} SELECT {number} FROM {table} AS t{beside} WHERE {same} AND {number} = ANY (%s)"
            " AND md5(ROW({values})::text) IN"
            " (SELECT md5(ROW({values})::text) FROM {table} AS t{beside}, _mapped_ids"
            " WHERE {same} AND _mapped_ids.id = {number})"
        ).format(
            mapped=_mapped(place, flows),
            table=place.table,
            values=values,
            number=place.key.number,
            beside=place.key.beside,
            same=place.key.same,
        ),
        [ids.to_list()],
    )
    return {int(row[0]) for row in rows}
