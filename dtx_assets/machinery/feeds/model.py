"""What a feed file may say. The JSON Schema that editors complete it with is made from these classes.

Whether what it names is there is `load`'s business.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from dtx_assets.machinery.sources.csv_dialect import WrittenAs
from dtx_assets.machinery.transforms.columns import DateForm

NAME = re.compile(r"[a-z][a-z0-9_]*")
FILE = re.compile(r"s3://[^/]+/.*[^/]|(?!\w+://).*[^/]", re.DOTALL)
TAKEN_RULES = ("migrated", "rejected", "identical")
"""What the accounting calls other fates of a row."""


def _texts(value: Any) -> Any:
    """One or several texts. What YAML reads as a number or a date would not be the same text again."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    for one in values:
        if not isinstance(one, str):
            raise ValueError(f"{one!r} is read as {type(one).__name__}, and a text is needed; write it in quotes")
    return values


Texts = Annotated[
    tuple[StrictStr, ...],
    BeforeValidator(_texts),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Dialect(WrittenAs):
    """How the CSV file is written."""

    header: bool = Field(True, description="whether the first line names the columns; else `names` does")
    null_markers: Texts = Field(("",), description="the texts that mean NULL, in every column")


class FeedSource(_Strict):
    """Where the rows are: a legacy table that is landed anyway, or a CSV file."""

    table: str | None = Field(None, description="a legacy table that is landed anyway")
    file: str | None = Field(None, description="a CSV file: a path relative to the feed file, or s3://bucket/key")
    dialect: Dialect = Field(
        default_factory=lambda: Dialect.model_validate({}),
        description="how the file is written; else RFC 4180 in UTF-8",
    )
    names: tuple[str, ...] = Field((), description="the columns of a file without a header line, in their order")

    @model_validator(mode="after")
    def _one_place(self) -> "FeedSource":
        if (self.table is None) == (self.file is None):
            raise ValueError("a feed has one source; give `table: …` or `file: …`")
        if self.file is not None and not FILE.fullmatch(self.file):
            raise ValueError(f"{self.file!r} names no file; write a path, or s3://bucket/key")
        if self.table is not None and self.model_fields_set & {"dialect", "names"}:
            raise ValueError("the legacy table has its own dialect and names; remove `dialect` and `names`")
        if self.file is not None and self.dialect.header == bool(self.names):
            raise ValueError(
                "the first line names the columns; remove `names`, or say `header: false` in the dialect"
                if self.names
                else "nothing names the columns; add `names: […]`, or say `header: true` in the dialect"
            )
        if doubled := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise ValueError(f"two columns are called {', '.join(doubled)}; rename one")
        return self


class FeedColumn(_Strict):
    """One value that a row of the feed gives."""

    from_: str = Field(alias="from", description="the column of the source, exactly as it is called there")
    transform: Literal["text", "integer", "date"] = Field("text", description="what the text is read as")
    format: str | None = Field(
        None, description="of a date: how it is written, of YYYY, MM, DD, M, D, MON, as in MM/DD/YYYY"
    )
    null_values: Texts = Field((), description="values that become NULL, and are counted")
    required: bool = Field(False, description="a row without a value is rejected")

    @model_validator(mode="after")
    def _of_its_kind(self) -> "FeedColumn":
        if self.transform != "date" and self.format is not None:
            raise ValueError("only dates have a format; remove it, or say `transform: date`")
        if self.format is not None:
            DateForm.of(self.format)
        if self.transform == "date" and self.format is None:
            raise ValueError("says nothing about how the date is written; add `format: MM/DD/YYYY`")
        return self


class DropRule(_Strict):
    """Rows that are left out, and the rule they are counted under."""

    column: str
    equals: StrictInt | StrictStr | None = Field(
        description="a number is compared by value, a text without case and blanks around it, null is NULL"
    )
    rule: str = Field(description="the name that the accounting has for it")

    @field_validator("equals", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        if value is None or (isinstance(value, int | str) and not isinstance(value, bool)):
            return value
        raise ValueError(f"{value!r} is no whole number, text or null; write a text in quotes")

    @field_validator("rule")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value) or value in TAKEN_RULES:
            raise ValueError(
                f"a rule cannot be called {value!r}; write lower-case words with _ between them, "
                f"other than {', '.join(TAKEN_RULES)}"
            )
        return value


class Match(_Strict):
    """The target row that a row of the feed belongs to."""

    column: str
    crosswalk: str


class ArrayTarget(_Strict):
    """All rows of one target row as an array of objects, under a key of a JSON column."""

    column: str
    key: str
    order_by: str | None = Field(None, description="the value that orders the objects; those without one come last")
    members: tuple[str, ...] = Field((), description="the values that each object has; default is all columns")


class FeedTarget(_Strict):
    """What is filled: an array in a JSON column, or plain columns of the target row."""

    model: str
    array: ArrayTarget | None = None
    columns: dict[str, str] = Field({}, description="column of the target: the feed's column that fills it")

    @model_validator(mode="after")
    def _one_form(self) -> "FeedTarget":
        if (self.array is None) == (not self.columns):
            raise ValueError("a feed fills one thing; give `array: …` or `columns: …`")
        return self


class FeedFile(_Strict):
    """The import of one client's CSV."""

    feed: str
    description: str = ""
    enabled: bool = Field(True, description="whether it is in the graph; false is for examples and drafts")
    source: FeedSource
    columns: dict[str, FeedColumn]
    key: tuple[str, ...] = Field((), description="columns of the source that tell its rows apart; none where none do")
    drop: tuple[DropRule, ...] = ()
    match: Match
    target: FeedTarget

    @field_validator("feed")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"a feed cannot be called {value!r}; write lower-case words with _ between them")
        return value

    @property
    def values(self) -> tuple[str, ...]:
        """The feed's columns that are written, in their order."""
        if self.target.array:
            return self.target.array.members or tuple(self.columns)
        return tuple(dict.fromkeys(self.target.columns.values()))

    @property
    def read(self) -> tuple[str, ...]:
        """The columns of the source that are read, each once."""
        rules = (rule.column for rule in self.drop)
        values = (column.from_ for column in self.columns.values())
        return tuple(dict.fromkeys((*self.key, self.match.column, *rules, *values)))


def feed_schema() -> dict[str, Any]:
    """The JSON Schema of a feed file, shipped as `mappings/feed.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FeedFile.model_json_schema(by_alias=True),
        "title": "Import of one client's CSV",
    }
