"""The search in embeddings: a text is embedded and the SQL functions of the target are asked."""

from dataclasses import dataclass

from psycopg import sql

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import suggestion
from dtx_assets.machinery.derived.embedder import Embedder, embed_text
from dtx_assets.machinery.derived.model import DerivedDeclaration, Entity
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.postgres.ddl import qualified


@dataclass(frozen=True)
class Match:
    """A row whose text is near: its key, cosine similarity (or the fused score), and its best chunk."""

    id: str
    similarity: float
    text: str


def entity_of(declared: DerivedDeclaration, name: str) -> Entity:
    if name not in declared.entities:
        raise ConfigurationError(
            f"there is no text of {name!r}", where="dtx search", remedy=suggestion(name, declared.entities)
        )
    return declared.entities[name]


def search(
    connection: Connection, entity: Entity, embedder: Embedder, text: str, k: int, *, hybrid: bool = False
) -> list[Match]:
    """The `k` nearest rows, best first; ConfigurationError where nothing of this model is there."""
    if not text.strip():
        raise ConfigurationError("there is nothing to search for", where="dtx search", remedy="give a text")
    models = [
        str(model)
        for (model,) in connection.execute(
            sql.SQL("SELECT DISTINCT model_name FROM {}").format(qualified(entity.embeddings))
        )
    ]
    if models != [embedder.model_name]:
        raise ConfigurationError(
            f"{entity.embeddings} holds embeddings of {', '.join(models) or 'no model'}, not of {embedder.model_name}",
            where="dtx search",
            remedy="embed its texts with this model first (`dtx embed`), or choose the embedder that did",
        )
    # Of a text that a model takes in pieces only, the first one is asked for.
    vector = embed_text(embedder.embed, text.strip(), truncate=True).chunks[0].vector
    return matches(connection, entity, str(vector.tolist()), k, words=text.strip() if hybrid else None)


def matches(connection: Connection, entity: Entity, vector: str, k: int, words: str | None = None) -> list[Match]:
    """The nearest of a vector as pgvector writes one; with `words`, fused with full text."""
    function = entity.search if words is None else entity.hybrid_search
    statement = sql.SQL("SELECT id::text, {}, content_text FROM {}({}%s::vector, %s)").format(
        sql.Identifier("similarity" if words is None else "score"),
        qualified(function),
        sql.SQL("" if words is None else "%s, "),
    )
    given = [vector, k] if words is None else [words, vector, k]
    return [Match(str(row), float(near), str(text)) for row, near, text in connection.execute(statement, given)]
