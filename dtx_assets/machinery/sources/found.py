"""What a source has, for whoever begins a system: its tables, and what their columns hold as far as anybody can say."""

from dataclasses import dataclass

from dtx_assets.machinery.model.legacy import ColumnKind

SAMPLED_ROWS = 10_000
"""So many rows of what does not say its types are looked at to guess what its columns hold."""


@dataclass(frozen=True)
class FoundColumn:
    """A column of the source. `type`: as the source spells it; `holds`: more than its kind says, where there is more.

    `holds` is `bytes`, `set` (names with commas between them), `list` (an array of the database) or `array` (of a
    document), else empty. `is_postgresql`: whether its values are the text that PostgreSQL makes of the type.
    """

    name: str
    type: str
    kind: ColumnKind
    nullable: bool
    holds: str = ""
    names: str = ""
    """Of a field of documents, the collection whose ids it holds."""
    is_postgresql: bool = False


@dataclass(frozen=True)
class FoundTable:
    """A table of the source; `guessed` where its kinds and key were concluded from values."""

    name: str
    schema: str | None
    columns: tuple[FoundColumn, ...]
    key: tuple[str, ...]
    guessed: bool = False
    documents: bool = False
    """Whether it is a collection: the types of its columns are those of BSON, the most frequent first."""

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name
