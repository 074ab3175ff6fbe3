"""What a system derives from its target tables, as `derived.yaml` declares it: entities and the lines of their texts.

How texts are read and made is `texts`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model
from dtx_assets.machinery.mapping.model import When

MOST_OF_A_NAME = 40
"""So many characters the name of a knowledge base has at most."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class TextField(_Strict):
    """A value of a target row, or of the row that it refers to."""

    column: str
    key: str | None = Field(None, description="of a JSON column, the key whose value it is")
    as_: Literal["text", "year", "list"] = Field(
        "text", alias="as", description="as it is; of a date, its year; of a JSON array, its texts with commas between"
    )
    table: str | None = Field(None, description="the table of the column, where the row refers to another")
    by: str | None = Field(None, description="the column by which it refers to the `id` there")

    @model_validator(mode="after")
    def _refers_wholly(self) -> "TextField":
        if (self.table is None) != (self.by is None):
            raise ValueError("`table` and `by` go together; give both or neither")
        return self


class TextLine(_Strict):
    """A line of a text: `<label>: <fields>`, the fields trimmed with blanks between; left out where all are blank."""

    label: str | None = None
    fields: tuple[TextField, ...] = Field(min_length=1)
    when: When | None = None
    alone: bool = Field(True, description="whether it makes a text where no other line has a field")


class Eligible(_Strict):
    """What has to hold of a row so that a text is made of it: of a boolean, or of the legacy row that it came from."""

    column: str | None = None
    key: str | None = Field(None, description="of a JSON column, the key whose value it is")
    is_: bool = Field(True, alias="is", description="NULL is false")
    legacy: str | None = Field(None, description="a legacy table, of which a column must not be blank")
    by: str | None = Field(None, description="the column that holds the legacy row's key; NULL is eligible")
    given: str | None = Field(None, description="the column of the legacy table")

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Eligible":
        legacy = (self.legacy, self.by, self.given)
        if all(legacy) == (self.column is not None) or (any(legacy) and not all(legacy)):
            raise ValueError("it names no condition; give `column`, or `legacy`, `by` and `given`")
        return self


class Entity(_Strict):
    """A target table whose rows have texts, and where the embeddings of these are."""

    table: str = ""
    embeddings: str
    owner: str = Field(description="the column of the embeddings that refers to the row")
    content_type: str
    priority: int
    search: str = Field(description="the SQL function that finds the nearest")
    hybrid_search: str = Field(description="the one that looks for the words too")
    trigger: str = Field(description="puts rows that the application writes on the queue")
    eligible: tuple[Eligible, ...] = ()
    lines: tuple[TextLine, ...] = Field(min_length=1)


class Knowledge(_Strict):
    """How the knowledge bases are made that the texts are sent to, one an entity."""

    name: str = Field(min_length=1, description="what their names begin with, before that of the entity")
    embedding_model: str
    rerank_model: str
    top_k: int = Field(10, gt=0, description="how many parts of documents a query gives")


class DerivedDeclaration(_Strict):
    """All that a system derives."""

    namespace: UUID
    """Of the version 5 UUIDs that rows of the queue and documents have."""
    queue: str
    dimensions: int = Field(gt=0)
    area: str = "derived"
    """The group of its assets."""
    knowledge: Knowledge | None = None
    knowledge_bases: str = "dify_knowledgebases"
    documents: str = "dify_documents"
    entities: Mapping[str, Entity] = Field(min_length=1)
    """By the name of their table, which is `source_table` of the queue."""

    @model_validator(mode="after")
    def _have_short_names(self) -> "DerivedDeclaration":
        for entity in self.entities if self.knowledge else ():
            if len(self.name_of_base(entity)) > MOST_OF_A_NAME:
                raise ValueError(
                    f"the knowledge base {self.name_of_base(entity)!r} has more than {MOST_OF_A_NAME} characters, which"
                    " Dify refuses; let `name` be shorter"
                )
        return self

    def name_of_base(self, entity: str) -> str:
        """What the knowledge base of an entity is called."""
        return f"{self.knowledge.name} {entity}" if self.knowledge else entity

    @model_validator(mode="before")
    @classmethod
    def _name_tables(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(entities := given.get("entities"), dict):
            named = {
                name: {"table": name, **entity} if isinstance(entity, dict) else entity
                for name, entity in entities.items()
            }
            return {**given, "entities": named}
        return given


def load_derived(path: Path) -> DerivedDeclaration:
    """What a file declares; ConfigurationError, with file and line, for all that is wrong with it."""
    findings = Findings()
    parsed = parse_model(YamlFile(path), DerivedDeclaration, findings)
    findings.raise_if_any()
    assert parsed is not None
    return parsed
