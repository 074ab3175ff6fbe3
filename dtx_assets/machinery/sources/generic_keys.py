"""Generic foreign keys of a Django database: a column that names a content type, and one that holds an id of its table.

They are found in the catalogue, by foreign keys and names, without being told any. What they point at is counted: rows
for each model, and orphans, whose row is not there. All is read in one transaction, in which nothing can be written.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.types import NullType, TypeEngine, Uuid

from dtx_assets.machinery.base.errors import ConfigurationError, SourceError, StructureError
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.postgres.sessions import ROWS_REFUSED
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.catalogue import PARTITIONS, refusals_told, schemas_of, source_engine

CONTENT_TYPES = "django_content_type"
TABLES_BY_MODEL: Mapping[str, str] = {
    "contenttypes.contenttype": CONTENT_TYPES,
    "admin.logentry": "django_admin_log",
    "sessions.session": "django_session",
    "sites.site": "django_site",
}
"""Models of Django's own whose tables are not called `<app_label>_<model>`."""
PARTNERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("content_type_id", ("object_id", "object_pk", "object_uuid")),
    ("_type_id", ("_id", "_pk", "_uuid")),
)
"""How the type column's name ends, and with what in place of that its partner's does, the likeliest first."""

IdType = Literal["integer", "text", "uuid"]


class NamedKeys(BaseModel):
    """What `generic_keys.yaml` says where names are not as Django's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: dict[str, dict[str, str | None]] = Field(
        default={}, description="table: type column: the column of the id; null where the two are no generic key"
    )
    tables: dict[str, str] = Field(default={}, description="app_label.model: its table")


@dataclass(frozen=True)
class PointedAt:
    """What the rows of a generic key point at that name one model."""

    rows: int
    table: str | None
    orphans: int | None
    """Rows whose id no row of the table has; None where there is no table, or none with a key of one column."""


@dataclass(frozen=True)
class GenericKey:
    """`rows` are those of `both_null`, `type_only`, `id_only`, `models` and `unknown_types` together."""

    table: str
    type_column: str
    id_column: str
    id_type: IdType
    rows: int = 0
    both_null: int = 0
    type_only: int = 0
    id_only: int = 0
    models: Mapping[str, PointedAt] = field(default_factory=dict)
    unknown_types: Mapping[str, int] = field(default_factory=dict)
    """By content type ids that no content type has."""


@dataclass(frozen=True)
class Unpaired:
    """A column that names content types, and no column beside it holds an id."""

    table: str
    type_column: str
    rows: int


@dataclass(frozen=True)
class GenericKeys:
    pairs: tuple[GenericKey, ...]
    unpaired: tuple[Unpaired, ...]
    models_without_table: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class DjangoTable:
    """What the catalogue says of a table."""

    name: str
    columns: Mapping[str, IdType | None]
    """None where its values are no ids: neither integers nor text nor UUIDs."""
    primary_key: tuple[str, ...]
    type_columns: tuple[str, ...]
    """Those whose foreign key leads to the content types."""
    referring: frozenset[str]
    """Those that have a foreign key of any kind."""


def read_named_keys(path: Path) -> NamedKeys:
    """What the file says; nothing where there is none."""
    if not path.is_file():
        return NamedKeys()
    findings = Findings()
    named = parse_model(YamlFile(path), NamedKeys, findings)
    findings.raise_if_any()
    return named or NamedKeys()


def find_generic_keys(url: str, named: NamedKeys | None = None) -> GenericKeys:
    """All generic keys of a database, with what they point at.

    SourceError where it cannot be read or holds no Django; ConfigurationError where `named` names what is not there.
    """
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    if scheme in ("", "file", "s3", "mongodb"):
        raise ConfigurationError(
            "generic keys are looked for in the catalogue of a database",
            where=mask_url(url),
            remedy="give a URL of PostgreSQL, MySQL or SQLite",
        )
    with open_source(url) as source:
        source.tables()
    with refusals_told(url), source_engine(scheme, url) as engine, _reading(engine) as connection:
        place = _django(connection, mask_url(url))
        return _Finder(connection, place, named or NamedKeys()).all()


@contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection whose transaction sees one moment and writes nothing."""
    with engine.connect() as connection:
        match engine.dialect.name:
            case "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                connection.execute(sa.text(ROWS_REFUSED))
            case "mysql" | "mariadb":
                connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                connection.rollback()
                connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        yield connection


def _django(connection: sa.Connection, shown: str) -> str | None:
    """The schema in which Django's tables are; None is the one that the URL shows."""
    inspector = sa.inspect(connection)
    if inspector.has_table(CONTENT_TYPES):
        return None
    found = [name for name in schemas_of(inspector) if name and inspector.has_table(CONTENT_TYPES, schema=name)]
    if len(found) == 1:
        return found[0]
    raise SourceError(
        f"{CONTENT_TYPES} is in several schemas: {', '.join(found)}" if found else f"there is no {CONTENT_TYPES}",
        where=shown,
        remedy="set the search path to one of them in the URL: ?options=-csearch_path%3D<schema>"
        if found
        else "give the URL of a Django database with its content types",
    )


class _Finder:
    def __init__(self, connection: sa.Connection, schema: str | None, named: NamedKeys) -> None:
        self.connection, self.schema, self.named = connection, schema, named
        self.tables = _catalogue(connection, schema)
        self._refuse_unknown_names()
        types = self._table(CONTENT_TYPES)
        rows = connection.execute(sa.select(types.c.id, types.c.app_label, types.c.model))
        self.models = {number: f"{app}.{model}" for number, app, model in rows}

    def all(self) -> GenericKeys:
        pairs: list[GenericKey] = []
        unpaired: list[Unpaired] = []
        for table in self.tables.values():
            named = self.named.pairs.get(table.name, {})
            for column in dict.fromkeys((*table.type_columns, *named)):
                partner = named[column] if column in named else partner_of(table, column)
                if partner is not None:
                    pairs.append(self._counted(table, column, partner))
                elif column not in named:
                    unpaired.append(Unpaired(table.name, column, self._rows(table)))
        without = {model for model in self.models.values() if self._table_of(model) is None}
        return GenericKeys(tuple(pairs), tuple(unpaired), tuple(sorted(without)))

    def _refuse_unknown_names(self) -> None:
        for name, columns in self.named.pairs.items():
            table = self.tables.get(name)
            for column, partner in columns.items():
                missing = [each for each in (column, partner) if each and (not table or each not in table.columns)]
                if missing:
                    what = f"{name} has no column {missing[0]}" if table else f"there is no table {name}"
                    raise ConfigurationError(what, where=f"generic_keys.yaml, pairs.{name}", remedy="correct the name")
        for model, name in self.named.tables.items():
            if name not in self.tables:
                raise ConfigurationError(
                    f"there is no table {name}", where=f"generic_keys.yaml, tables.{model}", remedy="correct the name"
                )

    def _table(self, name: str) -> sa.TableClause:
        columns = self.tables[name].columns if name in self.tables else ()
        return sa.table(name, *map(sa.column, columns), schema=self.schema)

    def _rows(self, table: DjangoTable) -> int:
        return self.connection.execute(sa.select(sa.func.count()).select_from(self._table(table.name))).scalar_one()

    def _table_of(self, model: str) -> DjangoTable | None:
        name = self.named.tables.get(model) or TABLES_BY_MODEL.get(model) or model.replace(".", "_", 1)
        return self.tables.get(name)

    def _counted(self, table: DjangoTable, type_column: str, id_column: str) -> GenericKey:
        rows = self._table(table.name)
        kind, value = rows.c[type_column], rows.c[id_column]
        counts = sa.select(kind, sa.func.count(), sa.func.count(value)).group_by(kind).order_by(kind)
        without_type = (0, 0)
        given: dict[Any, int] = {}
        type_only = 0
        for number, all_rows, with_id in self.connection.execute(counts).all():
            if number is None:
                without_type = (all_rows, with_id)
            else:
                given[number] = with_id
                type_only += all_rows - with_id
        models: dict[str, PointedAt] = {}
        unknown: dict[str, int] = {}
        for number, with_id in given.items():
            if number in self.models:
                models[self.models[number]] = self._pointed_at(rows, type_column, id_column, number, with_id)
            else:
                unknown[str(number)] = with_id
        return GenericKey(
            table.name,
            type_column,
            id_column,
            table.columns[id_column] or "text",
            rows=sum(given.values()) + type_only + without_type[0],
            both_null=without_type[0] - without_type[1],
            type_only=type_only,
            id_only=without_type[1],
            models=models,
            unknown_types=unknown,
        )

    def _pointed_at(self, rows: sa.TableClause, type_column: str, id_column: str, number: Any, found: int) -> PointedAt:
        target = self._table_of(self.models[number])
        if target is None:
            return PointedAt(found, None, None)
        if len(target.primary_key) != 1:
            return PointedAt(found, target.name, None)
        theirs = self._table(target.name).alias("pointed_at")
        value = rows.c[id_column]
        is_there = sa.exists().where(_as_text(theirs.c[target.primary_key[0]]) == sa.func.trim(_as_text(value)))
        alone = sa.select(sa.func.count()).select_from(rows)
        alone = alone.where(rows.c[type_column] == number, value.is_not(None), ~is_there)
        return PointedAt(found, target.name, self.connection.execute(alone).scalar_one())


def columns_of_key(url: str, table: LegacyTable, columns: Sequence[str], named: NamedKeys) -> tuple[str, str]:
    """What the source calls the two columns of the one generic key of a table; `columns` are all that it has there.

    In a database foreign keys tell, in CSV files, and where nothing has a foreign key, names. StructureError where
    there is none, or several that `named` does not decide between.
    """
    said = named.pairs.get(table.name, {})
    pairs = {name: partner for name, partner in said.items() if partner is not None}
    if not pairs:
        found = _looked_at(url, table, columns)
        partners = ((name, partner_of(found, name)) for name in found.type_columns if name not in said)
        pairs = {name: partner for name, partner in partners if partner is not None}
    unknown = [name for pair in pairs.items() for name in pair if name not in columns]
    if len(pairs) != 1 or unknown:
        listed = "; ".join(f"{name} with {partner}" for name, partner in pairs.items())
        what = f"has no column {unknown[0]}" if unknown else f"has several generic keys: {listed}"
        raise StructureError(
            f"{table.shown} {what if pairs else 'has no generic key'}; its columns are {', '.join(columns)}",
            where=mask_url(url),
            remedy=f"name its pair in generic_keys.yaml: `pairs: {{{table.name}: {{<type column>: <id column>}}}}`",
        )
    return next(iter(pairs.items()))


def _looked_at(url: str, table: LegacyTable, columns: Sequence[str]) -> DjangoTable:
    scheme = url.partition("://")[0].lower().partition("+")[0] if "://" in url else ""
    by_name = tuple(name for name in columns if any(name.endswith(ending) for ending, _ in PARTNERS))
    in_files = DjangoTable(table.name, dict.fromkeys(columns, "text"), table.key, by_name, frozenset())
    if scheme in ("", "file", "s3"):
        return in_files
    with refusals_told(url), source_engine(scheme, url) as engine, _reading(engine) as connection:
        catalogue = _catalogue(connection, table.schema)
    if not any(each.referring for each in catalogue.values()):
        return in_files
    return catalogue.get(table.name, in_files)


def _as_text(column: sa.ColumnElement[Any]) -> sa.ColumnElement[str]:
    return sa.cast(column, sa.String)


def partner_of(table: DjangoTable, type_column: str) -> str | None:
    """The column that holds the id beside a column that names the content type; None where there is none."""
    for ending, others in PARTNERS:
        if not type_column.endswith(ending):
            continue
        prefix = type_column.removesuffix(ending)
        for other in others:
            name = f"{prefix}{other}"
            if table.columns.get(name) and name not in table.referring and name not in table.primary_key:
                return name
    return None


def _catalogue(connection: sa.Connection, schema: str | None) -> dict[str, DjangoTable]:
    inspector = sa.inspect(connection)
    keys = inspector.get_multi_pk_constraint(schema=schema)
    references = inspector.get_multi_foreign_keys(schema=schema)
    parts: Collection[tuple[str | None, str]] = ()
    if connection.dialect.name == "postgresql":
        parts = {(part_schema, name) for part_schema, name in connection.execute(PARTITIONS)}
    found = {}
    for (_, name), columns in sorted(inspector.get_multi_columns(schema=schema).items(), key=lambda item: item[0][1]):
        if (schema or inspector.default_schema_name, name) in parts:
            # Its rows are those of the table that it is a part of.
            continue
        foreign = references.get((schema, name), [])
        constraint = keys.get((schema, name))
        found[name] = DjangoTable(
            name,
            {column["name"]: _id_type(column["type"]) for column in columns},
            tuple(constraint["constrained_columns"]) if constraint else (),
            _type_columns(foreign),
            frozenset(column for each in foreign for column in each["constrained_columns"]),
        )
    return found


def _type_columns(foreign: Sequence[Any]) -> tuple[str, ...]:
    return tuple(
        each["constrained_columns"][0]
        for each in foreign
        if len(each["constrained_columns"]) == 1 and each["referred_table"] == CONTENT_TYPES
    )


def _id_type(kind: TypeEngine[Any]) -> IdType | None:
    match kind:
        case sa.Integer():
            return "integer"
        case Uuid():
            return "uuid"
        case NullType() | sa.Enum():
            return None
        case sa.String():
            return "text"
    return None
