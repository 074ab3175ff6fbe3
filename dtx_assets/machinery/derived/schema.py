"""The tables, functions, triggers and indexes that the derived layer needs in the target database."""

from pathlib import Path

from psycopg import sql

from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified

EXTENSION = "vector"
QUEUE_SQL, EMBEDDINGS_SQL = "derived.sql", "embeddings.sql"
"""Files of a system's mapping folder: what needs no pgvector, and what does."""
BULK_ROWS = 2_000
"""So many rows of an entity are written faster without indexes, which are made again after them."""
HNSW = "(embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)"
WORDS = "(to_tsvector('simple', content_text))"


def create_derived(connection: Connection, declared: DerivedDeclaration, mappings_dir: Path) -> None:
    """Make what is not there yet, in a database of our own: the queue always, embeddings where there is pgvector."""
    parts = missing_parts(connection, declared)
    if f"table {declared.queue}" in parts:
        connection.execute((mappings_dir / QUEUE_SQL).read_text("utf-8").encode())
    embeddings = {f"table {entity.embeddings}" for entity in declared.entities.values()}
    if embeddings <= set(parts) and is_available(connection):
        connection.execute((mappings_dir / EMBEDDINGS_SQL).read_text("utf-8").encode())


def has_extension(connection: Connection) -> bool:
    """Whether pgvector is in this database."""
    return connection.execute("SELECT 1 FROM pg_extension WHERE extname = %s", [EXTENSION]).fetchone() is not None


def is_available(connection: Connection) -> bool:
    """Whether the server could add pgvector."""
    found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", [EXTENSION]).fetchone()
    return found is not None


def missing_parts(connection: Connection, declared: DerivedDeclaration) -> list[str]:
    """What is declared and not in the database: tables, functions, triggers."""
    tables = [declared.queue, declared.knowledge_bases, declared.documents]
    entities = declared.entities.values()
    tables += [table for entity in entities for table in (entity.table, entity.embeddings)]
    functions = [name for entity in entities for name in (entity.search, entity.hybrid_search)]
    missing = [
        f"table {table}"
        for table in tables
        if connection.execute("SELECT to_regclass(%s)", [qualified(table).as_string()]).fetchone() == (None,)
    ]
    missing += [
        f"function {name}"
        for name in functions
        if connection.execute("SELECT to_regproc(%s)", [qualified(name).as_string()]).fetchone() == (None,)
    ]
    return missing + [
        f"trigger {entity.trigger} of {entity.table}"
        for entity in entities
        if f"table {entity.table}" not in missing and _trigger_state(connection, entity) is None
    ]


def require_parts(connection: Connection, declared: DerivedDeclaration) -> None:
    """StructureError where something is missing that embeddings need."""
    if not has_extension(connection):
        raise StructureError(
            "the target database has no pgvector, which embeddings need",
            where="the target database",
            remedy=f"install it on the server, then CREATE EXTENSION {EXTENSION} and load {EMBEDDINGS_SQL} of the"
            " mapping folder; the other phases run without it",
        )
    if missing := missing_parts(connection, declared):
        raise StructureError(
            f"the target database lacks {', '.join(missing)}",
            where="the target database",
            remedy=f"load {QUEUE_SQL} and {EMBEDDINGS_SQL} of the mapping folder (`dtx target ddl` prints all)",
        )


# --- triggers ---------------------------------------------------------------------------------------------------------


def trigger_states(connection: Connection, declared: DerivedDeclaration) -> dict[str, str | None]:
    """By trigger: `on` or `off`, None where it is not there."""
    return {entity.trigger: _trigger_state(connection, entity) for entity in declared.entities.values()}


def _trigger_state(connection: Connection, entity: Entity) -> str | None:
    found = connection.execute(
        "SELECT tgenabled FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = %s AND NOT tgisinternal",
        [qualified(entity.table).as_string(), entity.trigger],
    ).fetchone()
    return None if found is None else "off" if found[0] in ("D", b"D") else "on"


def switch_triggers(connection: Connection, declared: DerivedDeclaration, *, on: bool) -> None:
    """Enable or disable the triggers that put what the application writes on the queue."""
    for entity in declared.entities.values():
        if _trigger_state(connection, entity) != ("on" if on else "off"):
            connection.execute(
                sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(
                    qualified(entity.table),
                    sql.SQL("ENABLE" if on else "DISABLE"),
                    sql.Identifier(entity.trigger),
                )
            )


# --- indexes ----------------------------------------------------------------------------------------------------------


def drop_for_bulk(connection: Connection, declared: DerivedDeclaration, queue_rows: dict[str, int]) -> list[str]:
    """Drop the indexes over embeddings and words of each entity that so many rows are queued of; which ones.

    What they are is noted before, so that the next run makes them where this one is killed.
    """
    dropped = []
    for name, entity in declared.entities.items():
        if queue_rows.get(name, 0) < BULK_ROWS:
            continue
        for index, definition in _indexes(connection, entity):
            with connection.transaction():
                connection.execute(
                    "INSERT INTO migration.derived_index VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    [entity.embeddings, index, definition],
                )
                connection.execute(sql.SQL("DROP INDEX {}").format(qualified(index)))
            dropped.append(index)
    if dropped:
        reach("derived.indexes_dropped")
    return dropped


def build_indexes(connection: Connection, declared: DerivedDeclaration) -> list[str]:
    """Make the indexes that were dropped, and those over embeddings and words that are not there; which ones."""
    made = []
    for entity in declared.entities.values():
        noted = connection.execute(
            "SELECT index_name, definition FROM migration.derived_index WHERE table_name = %s", [entity.embeddings]
        ).fetchall()
        for name, definition in noted:
            with connection.transaction():
                _without_time_limit(connection)
                if connection.execute("SELECT to_regclass(%s)", [qualified(name).as_string()]).fetchone() == (None,):
                    connection.execute(definition.encode())
                    made.append(name)
                connection.execute("DELETE FROM migration.derived_index WHERE index_name = %s", [name])
        methods = {definition.partition(" USING ")[2].split(" ")[0] for _, definition in _indexes(connection, entity)}
        for method, over in (("hnsw", HNSW), ("gin", WORDS)):
            if method not in methods:
                name = f"{entity.embeddings}_{method}"
                with connection.transaction():
                    _without_time_limit(connection)
                    connection.execute(
                        sql.SQL("CREATE INDEX {} ON {} USING {} {}").format(
                            sql.Identifier(name), qualified(entity.embeddings), sql.SQL(method), sql.SQL(over)
                        )
                    )
                made.append(name)
        reach("derived.index_built")
    return made


def _indexes(connection: Connection, entity: Entity) -> list[tuple[str, str]]:
    """Name and definition of the indexes of the embeddings that slow down a bulk."""
    found = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam"
        " WHERE indrelid = to_regclass(%s) AND amname IN ('hnsw', 'ivfflat', 'gin', 'gist') ORDER BY 1",
        [qualified(entity.embeddings).as_string()],
    )
    return [(str(name), str(definition)) for name, definition in found]


def _without_time_limit(connection: Connection) -> None:
    """An index over many embeddings takes longer than a statement of a load may, and memory."""
    connection.execute("SET LOCAL statement_timeout = 0")
    connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
