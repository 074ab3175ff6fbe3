"""What an embedder is, what can go wrong with one, and how a text is asked of it, in chunks where it is long."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dtx_assets.machinery.base.errors import LoadError

CHARACTERS_A_CHUNK = 24_000
SHORTEST_CHUNK = 256
"""A chunk that is not longer is not halved any more."""
NORM_TOLERANCE = 0.01
STAND_IN = "standin:"
"""How the names of models begin that only stand in for one."""

_BOUNDARIES = (r"\n[^\S\n]*\n\s*", r"\n", r"[.!?…]['\")\]]*\s+", r"\s+")
"""The ends of paragraphs, lines, sentences and words."""

Vector = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True)
class Answer:
    """What a model says of one text: its vector, and the tokens that it counted."""

    vector: Vector
    tokens: int | None


@dataclass(frozen=True)
class Chunk:
    """A part of a text with its vector."""

    text: str
    vector: Vector
    tokens: int | None


@dataclass(frozen=True)
class Embedded:
    """A whole text, in its chunks; `truncated` where only the first one was asked for."""

    chunks: tuple[Chunk, ...]
    truncated: bool = False


class Embedder(Protocol):
    """Turns a text that is not blank into a vector. Several threads call it at once."""

    @property
    def model_name(self) -> str: ...

    @property
    def model_version(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, text: str) -> Answer:
        """Raises TryAgain, TooManyTokens, Refused or EmbeddingStopped."""
        ...


class TryAgain(Exception):
    """The model may answer later; what it said holds nothing of the text."""


class TooManyTokens(Exception):
    """The text is too long for the model."""


class Refused(Exception):
    """The model will never take this text."""


class EmbeddingStopped(LoadError):
    """No text can be embedded until somebody does something."""


def is_stand_in(model_name: str) -> bool:
    return model_name.startswith(STAND_IN)


def checked_vector(values: object, dimensions: int) -> Vector:
    """The vector that a model gave; TryAgain unless it is `dimensions` finite numbers with a norm near 1."""
    try:
        vector = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise TryAgain("the answer holds no vector of numbers") from None
    if vector.shape != (dimensions,):
        raise TryAgain(f"the answer holds no vector of {dimensions} numbers")
    if not np.isfinite(vector).all():
        raise TryAgain("the vector holds what is no finite number")
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if abs(norm - 1) > NORM_TOLERANCE:
        raise TryAgain(f"the norm of the vector is {norm:.3f}, not 1")
    return vector


# --- chunks -----------------------------------------------------------------------------------------------------------


def cut_at(text: str, most: int) -> int:
    """Where to cut a text that is longer than `most`: behind the last paragraph, line, sentence or word that ends
    there, the first of these kinds whose end lies in the second half; in the middle of a word where there is none."""
    for boundary in _BOUNDARIES:
        end = 0
        for found in re.finditer(boundary, text[: most + 1]):
            if found.end() <= most:
                end = found.end()
        if end > most // 2:
            return end
    return most


def chunks_of(text: str, most: int = CHARACTERS_A_CHUNK) -> Iterator[str]:
    """The text in pieces of at most `most` characters; together they are the text."""
    while len(text) > most:
        cut = cut_at(text, most)
        yield text[:cut]
        text = text[cut:]
    yield text


def embed_text(ask: Callable[[str], Answer], text: str, *, truncate: bool) -> Embedded:
    """Ask for a whole text; a piece with too many tokens is halved and asked again. Blank pieces are never asked.

    `truncate` asks for the first piece only. Raises as `Embedder.embed` does, Refused for a text without any piece.
    """
    pieces = [piece for piece in chunks_of(text) if piece.strip()]
    if not pieces:
        raise Refused("the text is blank")
    chunks: list[Chunk] = []
    while pieces and not (truncate and chunks):
        piece = pieces.pop(0)
        try:
            answer = ask(piece)
        except TooManyTokens:
            if len(piece) <= SHORTEST_CHUNK:
                raise Refused(f"{len(piece)} characters are too many tokens for the model") from None
            pieces = [half for half in chunks_of(piece, (len(piece) + 1) // 2) if half.strip()] + pieces
        else:
            chunks.append(Chunk(piece, answer.vector, answer.tokens))
    return Embedded(tuple(chunks), truncated=bool(pieces))
