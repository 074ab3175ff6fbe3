"""What `tables.yaml` and `targets.yaml` of a system may say, as pydantic models, so that errors name file and line.

They are the declarations of `machinery.model` as people write them; `folder` makes those of them.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dtx_assets.machinery.base.settings import DEFAULT_BATCH_ROWS, LARGEST_BATCH_ROWS
from dtx_assets.machinery.mapping.model import When
from dtx_assets.machinery.model.legacy import NULL_MARKERS, ColumnKind

MIGRATION = "migration"
AREAS = {MIGRATION: "Area 1: Migration"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LegacyColumnFile(_Strict):
    """A column of a legacy table; the kind alone may stand for it: `film_id: integer`."""

    kind: ColumnKind | None = Field(
        default=None, description="how its text is read; left out: what `kinds_by_name` says, else as `text`"
    )
    personal: bool = Field(default=False, description="whether it is masked wherever people look")
    meaning: str = Field(default="", description="what it holds")

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in get_args(ColumnKind):
            raise ValueError(f"{value!r} is no kind of a column; use one of: {', '.join(get_args(ColumnKind))}")
        return {"kind": value} if isinstance(value, str) else value


def _names_alone(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        doubled = sorted({name for name in value if value.count(name) > 1})
        if doubled:
            raise ValueError(f"two columns are called {', '.join(doubled)}; remove one")
        return {name: {} for name in value}
    return value


Columns = Annotated[dict[str, LegacyColumnFile], BeforeValidator(_names_alone)]


class GenericKeyFile(_Strict):
    """A generic foreign key of Django: a content type, and the id of a row of its table."""

    type: str = Field(description="the declared column of the content type's id")
    id: str = Field(description="the declared column of the row's id")


class LegacyTableFile(_Strict):
    """A table of the legacy database."""

    columns: Columns = Field(description="its columns, in the order of the source; names alone where that is all")
    column_count: int | None = Field(
        default=None, description="how many columns the plan says it has, where it names not all of them"
    )
    key: tuple[str, ...] = Field(default=(), description="the columns that tell its rows apart")
    key_repeats: bool = Field(default=False, description="whether rows may share a key; they are numbered then")
    lies_in: str | None = Field(default=None, alias="schema", description="its schema, where that has to be said")
    area: str = Field(default="", description="the area of the plan; by default the first one")
    all_personal: bool = Field(default=False, description="whether nothing in it is shown as it is")
    personal: tuple[str, ...] = Field(
        default=(), description="columns that are masked wherever people look, named above or not"
    )
    required: tuple[str, ...] = Field(
        default=(), description="columns that have to be there, where what is prepared reads them"
    )
    all_required: bool = Field(default=False, description="whether nothing is prepared where one of its columns lacks")
    blanks_count: bool = Field(
        default=True,
        description="whether white space says anything in columns that are no text: else a blank one is NULL, and a key"
        " is what stands between",
    )
    null_markers: tuple[str, ...] = Field(default=NULL_MARKERS, description="what stands for NULL in a CSV of it")
    never_read: tuple[str, ...] = Field(
        default=(), description="columns of which nothing is read: neither the lake nor the archive has a value of them"
    )
    optional: bool = Field(default=False, description="whether it counts as empty where it is not there")
    generic_key: GenericKeyFile | None = Field(
        default=None,
        description="what its generic foreign key is called here: whatever the source calls the two columns, they are"
        " found as Django makes them, or as `generic_keys.yaml` says",
    )
    file: str | None = Field(
        default=None, description="its CSV file beside the mapping files, where it is no table of the source"
    )
    documents: bool = Field(
        default=False, description="whether it is a collection of documents, whose fields have types of their own"
    )
    meaning: str = Field(default="", description="what a row of it is")
    decision: str = Field(default="", description="the decisions about it, as in `A1 #2`")
    owner: str = Field(default="", description="who answers for its rows; left out: the `owner` of all tables")

    @model_validator(mode="after")
    def _key_is_there(self) -> "LegacyTableFile":
        both = (self.generic_key.type, self.generic_key.id) if self.generic_key else ()
        named = (("the key names", self.key), ("`required` names", self.required), ("`generic_key` names", both))
        for where, names in named:
            missing = [name for name in names if name not in self.columns]
            if missing:
                raise ValueError(f"{where} {missing[0]!r}, which is no column; list it under `columns`")
        return self


class LeadsTo(_Strict):
    """A crosswalk of a table that another area hands over."""

    target_id: str = Field(description="its column with the id in the target")
    target: str = Field(description="the model whose rows it leads to")
    area: str = Field(default="", description="the area that the crosswalk is shown in; by default its table's")
    extras: tuple[str, ...] = Field(default=(), description="other columns with ids that functions read")


class CrosswalkFile(LegacyTableFile):
    """A table that another area hands over: a legacy id, and the ids that the target has for it."""

    source_id: str = Field(description="its column with the legacy id")
    target_id: str | None = Field(default=None, description="its column with the id in the target")
    target: str | None = Field(default=None, description="the model whose rows it leads to")
    name: str = Field(default="", description="what mappings call it; by default the table's own name")
    leads_to: dict[str, LeadsTo] = Field(
        default={}, description="in place of these three, where it is several crosswalks: each by its name"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "CrosswalkFile":
        alone = [name for name in ("target_id", "target", "name") if getattr(self, name)]
        if self.leads_to and alone:
            raise ValueError(f"says `{alone[0]}` and `leads_to`; keep one of them")
        if (self.target_id is None) != (self.target is None) or (self.name and self.target is None):
            raise ValueError("says only half of where it leads; give `target_id` and `target`, or neither")
        return self

    def crosswalks(self, table: str) -> dict[str, LeadsTo]:
        """The crosswalks that it is, by what mappings call them; none where only functions read it."""
        if self.target_id is None or self.target is None:
            return self.leads_to
        return {self.name or table: LeadsTo(target_id=self.target_id, target=self.target)}


class ValueMapFile(_Strict):
    """What a value map says of itself besides its lines, which are `<name>.csv`."""

    owner: str = Field(description="who answers for its lines")


class FeedsFile(_Strict):
    """When the feeds of a system are in its graph."""

    decision: str = Field(description="key of a decision of `decisions.yaml`")
    option: str = Field(description="the option under which they are")
    area: str = Field(default="", description="the area of the plan; by default the first one")


class PhaseFile(_Strict):
    """A phase of the migration: the targets of an area."""

    area: str = Field(description="the area whose targets it loads")
    rules: dict[str, str] = Field(
        default={},
        description="what has to hold of its rows: a name, and a query of a text for each row that breaks it",
    )


class TablesFile(_Strict):
    """`tables.yaml`: the legacy side of a system."""

    areas: dict[str, str] = Field(default=AREAS, description="the areas of the plan: name, and title `Area 1: …`")
    kinds_by_name: dict[ColumnKind, tuple[str, ...]] = Field(
        default={},
        description="what columns are read as that do not say it, named or not: kind, and names with `*` for any text;"
        " the first that fits counts",
    )
    owner: str = Field(default="", description="who answers for what names no owner of its own")
    tables: dict[str, LegacyTableFile] = Field(description="the legacy tables by name")
    crosswalks: dict[str, CrosswalkFile] = Field(default={}, description="tables that others hand over, by name")
    unreadable_keys: Literal["schema_violation", "unparseable"] = Field(
        default="schema_violation", description="why a row is rejected whose key should be an integer and is none"
    )
    value_maps: dict[str, ValueMapFile] = Field(default={}, description="value maps that have an owner, by name")
    feeds: FeedsFile | None = Field(default=None, description="when the files under `feeds` are in the graph")
    phases: list[PhaseFile] = Field(
        default=[], description="areas that are loaded one after another, with a gate after each"
    )
    coerced: Literal["rows", "values"] = Field(
        default="rows", description="what the accounting counts of a lossy change: the rows with it, or the values"
    )
    extra: When | None = Field(
        default=None,
        description="the option under which fields of documents that nobody declared are written to `migration.extra`",
    )
    batch_rows: int = Field(
        default=DEFAULT_BATCH_ROWS, ge=1, le=LARGEST_BATCH_ROWS, description="source rows of one transaction"
    )


class TargetColumnFile(_Strict):
    """A column of a target table; its type alone may stand for it: `title: text`."""

    type: str = Field(description="its type, as PostgreSQL spells it")
    nullable: bool = Field(default=False, description="whether it may be NULL")
    length: int | None = Field(default=None, description="how many characters a text may have")
    references: str | None = Field(default=None, description="the table whose key it holds")
    allowed: tuple[str, ...] = Field(default=(), description="the only values that may be written")
    default: str | None = Field(default=None, description="what the target puts there itself, in SQL")
    unique: bool = Field(default=False, description="whether no two rows may have the same value")
    identity: bool = Field(default=False, description="whether the target counts it up where nothing is written")
    when: When | None = Field(
        default=None, description="the option under which the table has it; left out: as its table, else always"
    )
    meaning: str = Field(default="", description="what it holds")

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


class SentFile(_Strict):
    """Where a file belongs to each row of a target table."""

    key: str = Field(description="the column of its key in the object store")
    sha256: str = Field(description="the column of its SHA-256")


class TargetTableFile(_Strict):
    """A table of the target database."""

    table: str = Field(description="its name in the database")
    columns: dict[str, TargetColumnFile] = Field(description="its columns; not a key that the target gives")
    lies_in: str | None = Field(default=None, alias="schema", description="its schema, where no search path finds it")
    key: tuple[str, ...] = Field(default=("id",), description="the columns of its primary key")
    key_is_written: bool = Field(default=False, description="whether the mapping makes the key; else the target does")
    natural_key: tuple[str, ...] = Field(default=(), description="the columns of a unique index that tell rows apart")
    nulls_equal: bool = Field(default=False, description="whether NULLs count as equal in that index")
    area: str = Field(default="", description="the area of the plan; `other_areas` for what others fill")
    updated: bool = Field(
        default=False, description="whether columns are filled in rows that others make; else rows are made"
    )
    when: When | None = Field(default=None, description="the option under which it has columns that say no other one")
    called: dict[str, str] = Field(
        default={},
        description="crosswalks of the keys of its rows as they are prepared: what mappings call one, and the legacy"
        " table of the ids that it leads from",
    )
    held: str | None = Field(default=None, description="the column that is false until the rows are activated")
    file: SentFile | None = Field(default=None, description="where a file belongs to each row")
    refers_to: tuple[str, ...] = Field(
        default=(), description="the target tables that foreign keys of several columns lead to: they are loaded before"
    )
    loaded_after: tuple[str, ...] = Field(
        default=(), description="models whose load comes first, if it can, besides those that it refers to"
    )
    looked_up: tuple[str, ...] = Field(
        default=(), description="the columns that mappings and checks look up, of a table that others fill"
    )
    meaning: str = Field(default="", description="what a row of it is")
    decision: str = Field(default="", description="the decisions about it, as in `A1 #2`")
    owner: str = Field(default="", description="who answers for its rows; left out: the `owner` of `tables.yaml`")

    @model_validator(mode="after")
    def _keys_are_there(self) -> "TargetTableFile":
        for name in (*(self.key if self.key_is_written else ()), *self.natural_key):
            if name not in self.columns:
                raise ValueError(f"a key names {name!r}, which is no column; list it under `columns`")
        named = [self.held] if self.held else []
        for name in (*named, *((self.file.key, self.file.sha256) if self.file else ())):
            if name not in self.columns:
                raise ValueError(f"`held` or `file` names {name!r}, which is no column; list it under `columns`")
        for name in self.looked_up:
            if name not in self.columns and name not in self.key:
                raise ValueError(f"`looked_up` names {name!r}, which is no column; list it under `columns`")
        if not self.key_is_written and (len(self.key) != 1 or self.key[0] in self.columns):
            raise ValueError(
                "a key that the target gives is one column, which is not among `columns`; say `key_is_written: true`"
                " where the mapping makes it"
            )
        return self


class TargetsFile(_Strict):
    """`targets.yaml`: the target side of a system."""

    targets: dict[str, TargetTableFile] = Field(description="the target tables by model")
