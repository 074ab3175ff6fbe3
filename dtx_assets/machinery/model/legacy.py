"""What a legacy table is: its columns, their kinds and its key, declared once by each system.

Reading one from where it lives is `sources`; what its rows become is the systems' business.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ColumnKind = Literal[
    "text", "code", "integer", "decimal", "boolean", "date", "time", "instant", "uuid", "json", "object_id"
]
"""How the text of a column is read: `code` columns are compared trimmed and without case, `uuid` columns without case
and punctuation; a `time` is by the clock on the wall, an `instant` says its offset; `json` holds a value in JSON, of
documents in Extended JSON, and `object_id` one that is compared as an ObjectId is.
"""


NULL_MARKERS = (r"\N", "NULL")
"""What stands for NULL in the CSV exports of a legacy database."""

POINTS_TO, POINTS_TO_ID = "points_to", "points_to_id"
"""What is known of a row with a generic key: the legacy table that it points at, and the id there."""


@dataclass(frozen=True)
class LegacyTable:
    """One table of the legacy database.

    `columns` are the named ones, in the order of the source; more may turn up and are kept. `required` are those a
    chosen flow reads. `key` is empty where only an ordinal tells rows apart, as it does where `key_repeats`.
    `null_markers` are what stands for NULL in a CSV; where `all_personal`, nothing in the table is shown as it is.
    """

    name: str
    area: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    key_repeats: bool = False
    required: tuple[str, ...] = ()
    column_count: int | None = None
    description: str = ""
    decision: str = ""
    kind_of: Callable[[str], ColumnKind] = field(default=lambda _name: "text", compare=False)
    personal: frozenset[str] = frozenset()
    all_personal: bool = False
    null_markers: tuple[str, ...] = NULL_MARKERS
    blank_is_null: bool = False
    """Whether text of nothing but white space is NULL in columns that are not text or JSON, from a database too; white
    space around a key that is an integer says nothing then."""
    all_required: bool = False
    """Whether its `required` columns must be there whatever a flow reads."""
    schema: str | None = None
    """Where it lies in a database: a schema of PostgreSQL, a database of MySQL; None is what the URL shows."""
    documents: bool = False
    """Whether it is a collection of documents, whose fields have types of their own."""
    unreadable_key: Literal["schema_violation", "unparseable"] = "schema_violation"
    """The reason for which a row is rejected whose key should be an integer and is none."""
    never_read: frozenset[str] = frozenset()
    """Columns of which nothing is read, whatever they hold."""
    is_optional: bool = False
    """Whether it counts as empty where it is not there."""
    generic_key: tuple[str, str] | None = None
    """What flows call the two columns of its generic key, whatever the source calls them: content type, and id."""
    of: str | None = None
    each: str | None = None
    """Where its rows are the elements of an array: the collection of the documents, and their field."""
    named_at: str = field(default="", compare=False, repr=False)
    """The file and line that name the columns that are read, where one of them alone does."""

    def __post_init__(self) -> None:
        if (self.of is None) != (self.each is None):
            raise ValueError(f"{self.name} says only one of `of` and `each`; say both, or neither")

    @property
    def shown(self) -> str:
        """Its name as people are told it."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def is_personal(self, column: str) -> bool:
        """Whether its values are masked where people look; nobody knows what a column that is not named holds."""
        return self.all_personal or column in self.personal or column not in self.columns

    @property
    def columns_asked(self) -> tuple[str, ...]:
        """Its columns, and what its generic key comes to: what a mapping may ask of."""
        return (*self.columns, POINTS_TO, POINTS_TO_ID) if self.generic_key else self.columns

    @property
    def has_unique_key(self) -> bool:
        return bool(self.key) and not self.key_repeats
