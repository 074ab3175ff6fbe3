"""An embedder that stands in for a model: deterministic, without network and without weights.

It hashes words, pairs of them and trigrams of letters into a vector, so that texts that share them are near. It knows
nothing of what words mean, and is named as a stand-in wherever a model is named.
"""

import re
import unicodedata
from collections import Counter
from itertools import pairwise
from zlib import crc32

import numpy as np

from dtx_assets.machinery.derived.embedder import STAND_IN, Answer, TooManyTokens, checked_vector

MOST_TOKENS, MOST_CHARACTERS = 8_192, 50_000
"""As Titan v2 has them."""
CHARACTERS_A_TOKEN = 4.7
_WORD = re.compile(r"\w+")
_WEIGHTS = {"word": 1.0, "pair": 0.5, "letters": 0.3, "text": 0.1}


class StandIn:
    """Deterministic vectors of norm 1 from the words and letters of a text."""

    model_name = f"{STAND_IN}hashed-words"
    model_version = "1"

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def embed(self, text: str) -> Answer:
        tokens = max(1, round(len(text) / CHARACTERS_A_TOKEN))
        if tokens > MOST_TOKENS or len(text) > MOST_CHARACTERS:
            raise TooManyTokens
        vector = np.zeros(self.dimensions)
        features = _features(text)
        hashes = np.fromiter((crc32(feature) for feature in features), np.uint32, len(features))
        np.add.at(
            vector,
            (hashes >> 1) % self.dimensions,
            np.where(hashes & 1, 1.0, -1.0) * np.fromiter(features.values(), float, len(features)),
        )
        norm = float(np.linalg.norm(vector))
        return Answer(checked_vector(vector / norm if norm else _unit(self.dimensions), self.dimensions), tokens)


def _features(text: str) -> dict[bytes, float]:
    """What is hashed of a text, each with its weight; the text as it is among them, so that no other has its vector."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    counted: Counter[str] = Counter(f"word {word}" for word in words)
    counted.update(f"pair {one} {other}" for one, other in pairwise(words))
    for word in words:
        framed = f"^{word}$"
        counted.update(f"letters {framed[at : at + 3]}" for at in range(len(framed) - 2))
    weights = {
        feature.encode(): _WEIGHTS[feature.partition(" ")[0]] * (1 + np.log(count))
        for feature, count in counted.items()
    }
    return {**weights, f"text {text}".encode(): _WEIGHTS["text"]}


def _unit(dimensions: int) -> np.ndarray:
    """For a text whose features cancel one another."""
    vector = np.zeros(dimensions)
    vector[0] = 1.0
    return vector
