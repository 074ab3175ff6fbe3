"""Indexes and foreign keys of an empty table that are dropped for its first load and made again after it.

A row costs half as much where they are made in one go. They are the application's: whatever comes between, what was
dropped stands in `migration.made_after`, with the statement that makes it, from the same transaction until it is there
again. When that is done and for whom is decided by who calls: `target_load`, `runs`, `undo`.

What stays in any case: keys, unique indexes and exclusions, since a row that breaks one is found row by row; foreign
keys of other tables; a foreign key to the table itself, which later rows could satisfy; and whatever does not come back
as it was, which is tried before.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.load.place import Place
from dtx_assets.machinery.load.proof import require_counts
from dtx_assets.machinery.load.refusals import is_refusal
from dtx_assets.machinery.load.runs import TargetInUse, target_lock
from dtx_assets.machinery.load.undo_load import LoadUndo, UndoSummary, undo_loads
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.postgres.connection import Connection, connect, refusals_told, words_of
from dtx_assets.machinery.postgres.ddl import live_target, qualified

Log = Callable[[str], None]

LEAST_ROWS = 10_000
"""Of fewer it is not worth the locks."""
LOCK_TIMEOUT, TRIES, SECONDS_BETWEEN_TRIES = "2s", 30, 1.0
"""How long a lock is waited for, in which others queue, and how often: what holds one may be a long transaction."""
_WAITING = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

_DROPPABLE = """
SELECT 'foreign key' AS kind, conname::text AS name,
    format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(rule.oid)),
    convalidated,
    jsonb_build_object('definition', pg_get_constraintdef(rule.oid), 'inherited', coninhcount, 'local', conislocal,
        'comment', obj_description(rule.oid, 'pg_constraint'),
        'triggers', (SELECT jsonb_agg(jsonb_build_array(tgrelid::regclass::text, tgtype, tgenabled)
            ORDER BY tgrelid::regclass::text, tgtype) FROM pg_trigger WHERE tgconstraint = rule.oid),
        'extensions', (SELECT count(*) FROM pg_depend
            WHERE classid = 'pg_constraint'::regclass AND objid = rule.oid AND deptype IN ('e', 'x')))
FROM pg_constraint AS rule
WHERE conrelid = %(table)s::oid AND contype = 'f' AND conparentid = 0 AND confrelid <> conrelid
UNION ALL
SELECT 'index', relname::text, pg_get_indexdef(indexrelid), true,
    jsonb_build_object('definition', pg_get_indexdef(indexrelid), 'owner', relowner::regrole::text,
        'space', reltablespace, 'options', reloptions, 'clustered', indisclustered, 'identifies', indisreplident,
        'valid', indisvalid, 'ready', indisready, 'live', indislive, 'comment', obj_description(indexrelid, 'pg_class'),
        'columns', (SELECT jsonb_agg(jsonb_build_array(attname, attstattarget, attoptions) ORDER BY attnum)
            FROM pg_attribute WHERE attrelid = indexrelid),
        'extensions', (SELECT count(*) FROM pg_depend
            WHERE classid = 'pg_class'::regclass AND objid = indexrelid AND deptype IN ('e', 'x')))
FROM pg_index AS entry JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = %(table)s::oid AND NOT indisunique AND NOT indisprimary AND NOT indisexclusion
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid)
ORDER BY 1, 2
"""
"""All that is made by one statement and may be gone while rows are written; what the catalogue says of it but for its
numbers, which are others when it is made again."""


@dataclass(frozen=True)
class Piece:
    """An index or foreign key of a table (`table`: quoted, with its schema), and the statement that makes it."""

    table: str
    kind: Literal["index", "foreign key"]
    name: str
    definition: str
    valid: bool
    facts: dict[str, object] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def drop(self, connection: Connection) -> None:
        table = sql.SQL(self.table)
        if self.kind == "index":
            # An index is in the schema of its table.
            schema = connection.execute(
                "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
                " WHERE pg_class.oid = %s::regclass",
                [self.table],
            ).fetchone()
            assert schema
            connection.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(schema[0], self.name)))
        else:
            connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table, sql.Identifier(self.name)))

    def make(self, connection: Connection) -> None:
        """Make it; a foreign key so that it holds of new rows, which locks the tables for a moment only."""
        unchecked = self.kind == "foreign key" and not self.definition.endswith(" NOT VALID")
        connection.execute(f"{self.definition}{' NOT VALID' if unchecked else ''}".encode())

    def check(self, connection: Connection) -> None:
        """Of a foreign key that held of all rows: whether it does, which locks nobody out."""
        if self.kind == "foreign key" and self.valid:
            connection.execute(
                sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(sql.SQL(self.table), sql.Identifier(self.name))
            )


@dataclass
class After:
    """What is to be made after the load of a table, and why the rest is not, or nothing is."""

    pieces: list[Piece] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)


def droppable(connection: Connection, table: int) -> list[Piece]:
    """What of a table, by its number, may be dropped while rows are written."""
    with _names_with_schemas(connection):
        [(name,)] = connection.execute("SELECT %s::oid::regclass::text", [table]).fetchall()
        rows = connection.execute(_DROPPABLE, {"table": table}).fetchall()
    return [Piece(str(name), *row) for row in rows]


def to_be_made_after(place: Place) -> After:
    """What the first load of a table would drop and make again, as far as nothing has to be tried for it."""
    if why := _why_it_stays(place):
        return After(stays=[why])
    return After(droppable(place.connection, place.live.oid))


def drop_for_load(place: Place, load_id: int) -> After:
    """Drop what is to be made again after the load, and note it, in one transaction; what stays is told with reasons.

    Nothing is dropped of a table that has rows, or that this role does not own.
    """
    if why := _why_it_stays(place):
        return After(stays=[why])
    try:
        with place.connection.transaction():
            place.connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            place.connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(place.table))
            some = place.connection.execute(sql.SQL("SELECT 1 FROM ONLY {} LIMIT 1").format(place.table))
            if some.fetchone() is not None:
                return After(stays=["the table has rows"])
            after = After()
            for piece in droppable(place.connection, place.live.oid):
                if why := _why_it_does_not_come_back(place.connection, place.live.oid, piece):
                    after.stays.append(f"{piece}: {why}")
                else:
                    after.pieces.append(piece)
            for piece in after.pieces:
                _note(place.connection, load_id, piece)
                piece.drop(place.connection)
            reach("indexes.before_dropped")
    except _WAITING:
        return After(stays=["others hold locks on the table, or on one that it refers to"])
    reach("indexes.dropped")
    return after


def _why_it_stays(place: Place) -> str:
    """Why nothing of a table can be dropped; empty where something can."""
    if place.target.writes != "insert":
        return "its rows are others', and are updated"
    [(is_part, is_own, may_create, many)] = place.connection.execute(
        "SELECT relispartition OR relkind <> 'r' OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = t.oid"
        " OR inhrelid = t.oid), pg_has_role(relowner, 'USAGE'), has_schema_privilege(relnamespace, 'CREATE'),"
        " EXISTS (SELECT FROM migration.made_after JOIN migration.load ON load.id = load_id"
        "  WHERE to_regclass(live_table) = t.oid) FROM pg_class AS t WHERE t.oid = %s::oid",
        [place.live.oid],
    ).fetchall()
    if is_part:
        return "it has partitions, or tables that inherit from it, or is one of these"
    if not is_own:
        return "this user does not own the table"
    if not may_create:
        return "this user may create nothing in its schema"
    return "what another load dropped is not made again yet" if many else ""


def _why_it_does_not_come_back(connection: Connection, table: int, piece: Piece) -> str:
    """Whether it is there as it was when it is dropped and made again, by trying; empty where it is."""
    try:
        with connection.transaction(force_rollback=True), _names_with_schemas(connection):
            piece.drop(connection)
            piece.make(connection)
            piece.check(connection)
            again = _same_name(connection, table, piece)
    except _WAITING:
        raise
    except psycopg.Error as error:
        return words_of(error)
    return "" if again == piece else "made again it would not be what it is"


def _note(connection: Connection, load_id: int, piece: Piece) -> None:
    connection.execute(
        "INSERT INTO migration.made_after (load_id, live_table, kind, name, definition, valid, facts)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [load_id, piece.table, piece.kind, piece.name, piece.definition, piece.valid, Jsonb(piece.facts)],
    )


@contextmanager
def _names_with_schemas(connection: Connection) -> Iterator[None]:
    """A transaction in which definitions say the schema of each name, and mean it."""
    with connection.transaction():
        [before] = connection.execute(
            "SELECT current_setting('search_path'), current_setting('default_tablespace')"
        ).fetchall()
        setting = "SELECT set_config('search_path', %s, true), set_config('default_tablespace', %s, true)"
        connection.execute(setting, ["", ""])
        yield
        # The transaction may be within another one.
        connection.execute(setting, list(before))


# --- making it again --------------------------------------------------------------------------------------------------


class CannotBeMade(Exception):
    """Rows of the table do not fit to something that was dropped; what can be made is."""

    def __init__(self, piece: Piece, error: psycopg.Error) -> None:
        super().__init__()
        self.piece, self.error = piece, error

    def told(self, load: "Dropped") -> LoadError:
        return LoadError(
            f"{self.piece} of {self.piece.table}, dropped for load {load.load_id} of run {load.run_id}, cannot be made"
            f" again: {words_of(self.error)}",
            where=f"table {load.target_table}; what was dropped stands in migration.made_after",
            remedy=f"run again with {load.model}, which mends it, or undo that run with `dtx rollback`; rows of others"
            " that do not fit have to go first",
        )


@dataclass(frozen=True)
class Dropped:
    """A load for which something was dropped that is not made again yet, and what."""

    load_id: int
    run_id: str
    system: str
    target_table: str
    model: str
    pieces: tuple[tuple[int, Piece], ...]
    """With their numbers in the bookkeeping."""

    def __str__(self) -> str:
        return f"{self.target_table}: {', '.join(str(piece) for _, piece in self.pieces)}"

    @property
    def told(self) -> str:
        names = ", ".join(str(piece) for _, piece in self.pieces)
        return f"{self.target_table} is without {names}: load {self.load_id} of run {self.run_id} makes them after it"

    @property
    def remedy(self) -> str:
        return f"nothing, if it goes on; if it was killed, the next run makes them, or dtx rollback {self.run_id}"


def dropped_by_loads(connection: Connection, system: str | None = None) -> list[Dropped]:
    """What is not made again yet, by load, of a system or of all; of loads that go on, too."""
    rows = connection.execute(
        "SELECT load_id, run_id, system, target_table, model, made_after.id, live_table, kind, name, definition, valid,"
        " facts FROM migration.made_after JOIN migration.load ON load.id = load_id"
        " WHERE system = %s OR %s::text IS NULL ORDER BY load_id, kind DESC, made_after.id",
        [system, system],
    ).fetchall()
    by_load: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        by_load.setdefault(row[0], []).append(row)
    return [
        Dropped(load_id, run_id, of_system, table, model, tuple((row[5], Piece(*row[6:])) for row in of_load))
        for load_id, of_load in by_load.items()
        for run_id, of_system, table, model in [of_load[0][1:5]]
    ]


def dropped_for_load(connection: Connection, load_id: int) -> list[Dropped]:
    """The same of one load; nothing where all is made again."""
    return [dropped for dropped in dropped_by_loads(connection) if dropped.load_id == load_id]


def left_out(connection: Connection, system: str) -> list[Dropped]:
    """What is not made again yet; nothing where this version of the bookkeeping is not there, or may not be read."""
    may_be_read = (
        "SELECT has_table_privilege(to_regclass('migration.made_after'), 'SELECT')"
        " AND has_table_privilege(to_regclass('migration.load'), 'SELECT')"
    )
    return dropped_by_loads(connection, system) if connection.execute(may_be_read).fetchone() == (True,) else []


def make_again(connection: Connection, dropped: Dropped) -> None:
    """Make what was dropped for a load, each in a transaction that forgets it.

    CannotBeMade where rows do not fit: the rest is made, and a foreign key holds of new rows from then on. LoadError
    where others keep the tables locked, or where something else has its name by now. Holding the lock of the target.
    """
    cannot: CannotBeMade | None = None
    for number, piece in dropped.pieces:
        try:
            _patiently(connection, number, piece)
        except psycopg.Error as error:
            if not is_refusal(error):
                raise
            cannot = cannot or CannotBeMade(piece, error)
        reach("indexes.made")
    if cannot:
        raise cannot


def _patiently(connection: Connection, number: int, piece: Piece) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            _make(connection, number, piece)
            return
        except _WAITING:
            if not tries_left:
                raise LoadError(
                    f"{piece} cannot be made again: others keep the table, or the one that it refers to, locked",
                    where=f"table {piece.table}; what was dropped stands in migration.made_after",
                    remedy="see pg_stat_activity; when it is quieter, run again, or undo the run: both make it again",
                ) from None
            time.sleep(SECONDS_BETWEEN_TRIES)


def _make(connection: Connection, number: int, piece: Piece) -> None:
    if _found(connection, piece) is None:
        with connection.transaction(), _names_with_schemas(connection):
            _limit_waiting(connection)
            piece.make(connection)
            if piece.kind == "index":
                _forget(connection, number, piece)
                return
        reach("indexes.unchecked")
    with connection.transaction(), _names_with_schemas(connection):
        _limit_waiting(connection)
        piece.check(connection)
        _forget(connection, number, piece)


def _limit_waiting(connection: Connection) -> None:
    """An index over many rows takes longer than a statement of a load may."""
    connection.execute(
        "SELECT set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true)", [LOCK_TIMEOUT]
    )


def _found(connection: Connection, piece: Piece) -> Piece | None:
    """What there is of the same name."""
    [(table,)] = connection.execute("SELECT to_regclass(%s)::oid::bigint", [piece.table]).fetchall()
    if table is None:
        raise LoadError(
            f"{piece} cannot be made again, for its table is gone",
            where=f"table {piece.table}; what was dropped stands in migration.made_after",
            remedy="bring the table back; or, where it went on purpose, delete these rows there",
        )
    return _same_name(connection, table, piece)


def _same_name(connection: Connection, table: int, piece: Piece) -> Piece | None:
    found = droppable(connection, table)
    return next((each for each in found if (each.kind, each.name) == (piece.kind, piece.name)), None)


def _forget(connection: Connection, number: int, piece: Piece) -> None:
    """LoadError where what is there by now is something else."""
    found = _found(connection, piece)
    if found is None or found.facts != piece.facts:
        raise LoadError(
            f"{piece} is not what it was when it was dropped: somebody made another one of this name",
            where=f"table {piece.table}; what was dropped stands in migration.made_after",
            remedy="drop that one and run again; or, where it is what is wanted, delete the row there",
        )
    connection.execute("DELETE FROM migration.made_after WHERE id = %s", [number])


def mend(connection: Connection, system: str, targets: Sequence[TargetTable], log: Log) -> list[str]:
    """Make again what loads of these tables dropped that were killed, before anything else is done to them.

    Where rows of such a load do not fit, all that it wrote is taken back; gives its models. Holding the locks.
    """
    taken_back = []
    for dropped in dropped_by_loads(connection):
        target = next((each for each in targets if each.name == dropped.target_table), None)
        if target is None:
            continue
        if dropped.system != system:
            if not _is_of(connection, dropped, target):
                continue
            raise LoadError(
                f"a load of the migration {dropped.system} dropped what belongs to {dropped}",
                where=f"load {dropped.load_id} in migration.load",
                remedy=f"wait until it has ended; where it was killed, run {dropped.system} again, or undo that run",
            )
        log(f"making again what load {dropped.load_id}, which was killed, dropped of {dropped}")
        try:
            make_again(connection, dropped)
        except CannotBeMade as cannot:
            of_model = next((each for each in targets if each.model == dropped.model), None)
            live = live_target(connection, of_model) if of_model else None
            if of_model is None or live is None:
                raise cannot.told(dropped) from None
            log(f"rows of load {dropped.load_id} do not fit to {cannot.piece}: they are taken back and loaded again")
            take_back(Place(connection, system, of_model, live), dropped.load_id, dropped.run_id)
            taken_back.append(dropped.model)
    return taken_back


def _is_of(connection: Connection, dropped: Dropped, target: TargetTable) -> bool:
    """Whether it was dropped of this table, and not of one of the same name in another schema."""
    names = [qualified(target).as_string(connection), dropped.pieces[0][1].table]
    return connection.execute("SELECT to_regclass(%s) = to_regclass(%s)", names).fetchone() == (True,)


def take_back(place: Place, load_id: int, run_id: str) -> None:
    """Undo all that a load wrote and listed, and make again what it dropped; LoadError where it cannot be."""
    require_counts(place.connection)
    place.connection.execute("UPDATE migration.load SET status = 'killed' WHERE id = %s", [load_id])
    undo_loads([LoadUndo(place, load_id, run_id)], UndoSummary([run_id]))
    # The load that comes instead lists them again, in the same run.
    place.connection.execute("DELETE FROM migration.rejected_entry WHERE opened_by = %s", [load_id])
    reach("indexes.taken_back")
    require_made_again(place.connection, load_id)


def require_made_again(connection: Connection, load_id: int) -> None:
    """Make again what a load dropped; LoadError where rows do not fit to it."""
    for dropped in dropped_for_load(connection, load_id):
        try:
            make_again(connection, dropped)
        except CannotBeMade as cannot:
            raise cannot.told(dropped) from None


def mend_killed(connection_url: str, system: str, log: Log, *, strictly: bool = False) -> None:
    """Make again what killed loads of a system left, of whatever table. What does not fit its load takes back, and
    nobody else: LoadError where that is to be done `strictly`, before a cutover."""
    with refusals_told(), connect(connection_url) as connection:
        left = mended_alone(connection, left_out(connection, system), log)
    if left and strictly:
        raise left[0][1].told(left[0][0])


def mended_alone(connection: Connection, dropped: Sequence[Dropped], log: Log) -> list[tuple[Dropped, CannotBeMade]]:
    """Make again what is not of a load that goes on, as far as rows fit; gives the rest and why."""
    left = []
    for each in dropped:
        try:
            with target_lock(connection, each.system, each.target_table, wait_seconds=0):
                log(f"making again what load {each.load_id}, which was killed, dropped of {each}")
                make_again(connection, each)
        except CannotBeMade as cannot:
            left.append((each, cannot))
        except TargetInUse:
            continue
    return left
