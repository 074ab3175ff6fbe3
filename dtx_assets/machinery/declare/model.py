"""What `tables.yaml` and `targets.yaml` of a system may say, as pydantic models, so that errors name file and line.

They are the declarations of `machinery.model` as people write them; `folder` makes those of them.
"""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dtx_assets.machinery.base.settings import DEFAULT_BATCH_ROWS, LARGEST_BATCH_ROWS
from dtx_assets.machinery.model.legacy import NULL_MARKERS, ColumnKind

MIGRATION = "migration"
AREAS = {MIGRATION: "Area 1: Migration"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LegacyColumnFile(_Strict):
    """A column of a legacy table; the kind alone may stand for it: `film_id: integer`."""

    kind: ColumnKind = Field(default="text", description="how its text is read")
    personal: bool = Field(default=False, description="whether it is masked wherever people look")
    meaning: str = Field(default="", description="what it holds")

    @model_validator(mode="before")
    @classmethod
    def _kind_alone(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in get_args(ColumnKind):
            raise ValueError(f"{value!r} is no kind of a column; use one of: {', '.join(get_args(ColumnKind))}")
        return {"kind": value} if isinstance(value, str) else value


class LegacyTableFile(_Strict):
    """A table of the legacy database."""

    columns: dict[str, LegacyColumnFile] = Field(description="its columns, in the order of the source")
    key: tuple[str, ...] = Field(default=(), description="the columns that tell its rows apart")
    key_repeats: bool = Field(default=False, description="whether rows may share a key; they are numbered then")
    lies_in: str | None = Field(default=None, alias="schema", description="its schema, where that has to be said")
    area: str = Field(default="", description="the area of the plan; by default the first one")
    all_personal: bool = Field(default=False, description="whether nothing in it is shown as it is")
    all_required: bool = Field(default=False, description="whether nothing is prepared where one of its columns lacks")
    blanks_count: bool = Field(
        default=True,
        description="whether white space says anything in columns that are no text: else a blank one is NULL, and a key"
        " is what stands between",
    )
    null_markers: tuple[str, ...] = Field(default=NULL_MARKERS, description="what stands for NULL in a CSV of it")
    meaning: str = Field(default="", description="what a row of it is")
    decision: str = Field(default="", description="the decisions about it, as in `A1 #2`")

    @model_validator(mode="after")
    def _key_is_there(self) -> "LegacyTableFile":
        missing = [name for name in self.key if name not in self.columns]
        if missing:
            raise ValueError(f"the key names {missing[0]!r}, which is no column; list it under `columns`")
        return self


class CrosswalkFile(LegacyTableFile):
    """A table that another area hands over: a legacy id, and the id that the target has for it."""

    source_id: str = Field(description="its column with the legacy id")
    target_id: str = Field(description="its column with the id in the target")
    target: str = Field(description="the model whose rows it leads to")
    name: str = Field(default="", description="what mappings call it; by default the table's own name")


class TablesFile(_Strict):
    """`tables.yaml`: the legacy side of a system."""

    areas: dict[str, str] = Field(default=AREAS, description="the areas of the plan: name, and title `Area 1: …`")
    tables: dict[str, LegacyTableFile] = Field(description="the legacy tables by name")
    crosswalks: dict[str, CrosswalkFile] = Field(default={}, description="tables that others hand over, by name")
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
    meaning: str = Field(default="", description="what it holds")

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


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
    looked_up: tuple[str, ...] = Field(
        default=(), description="the columns that mappings and checks look up, of a table that others fill"
    )
    meaning: str = Field(default="", description="what a row of it is")
    decision: str = Field(default="", description="the decisions about it, as in `A1 #2`")

    @model_validator(mode="after")
    def _keys_are_there(self) -> "TargetTableFile":
        for name in (*(self.key if self.key_is_written else ()), *self.natural_key):
            if name not in self.columns:
                raise ValueError(f"a key names {name!r}, which is no column; list it under `columns`")
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
