"""Random values from a seed: what the tests against the oracle draw their tables with.

The names are those of Hypothesis's strategies. Hypothesis itself makes most examples by varying few of them, and gives
up long ones; rules that meet seldom need many long tables that have nothing to do with one another. Nothing is shrunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Concatenate, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class SearchStrategy(Generic[T]):
    """A way to draw a value; the same seed draws the same one."""

    draw: Callable[[Random], T]

    def map(self, change: Callable[[T], U]) -> "SearchStrategy[U]":
        return SearchStrategy(lambda random: change(self.draw(random)))

    def filter(self, holds: Callable[[T], bool]) -> "SearchStrategy[T]":
        def draw(random: Random) -> T:
            while not holds(value := self.draw(random)):
                pass
            return value

        return SearchStrategy(draw)


DrawFn = Callable[[SearchStrategy[Any]], Any]


def drawn(strategy: SearchStrategy[T], seed: int) -> T:
    return strategy.draw(Random(seed))


def sampled_from(values: Sequence[T]) -> SearchStrategy[T]:
    return SearchStrategy(lambda random: random.choice(values))


def integers(least: int, most: int) -> SearchStrategy[int]:
    return SearchStrategy(lambda random: random.randint(least, most))


def lists(element: SearchStrategy[T], *, min_size: int = 0, max_size: int) -> SearchStrategy[list[T]]:
    return SearchStrategy(lambda random: [element.draw(random) for _ in range(random.randint(min_size, max_size))])


def one_of(*strategies: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return SearchStrategy(lambda random: random.choice(strategies).draw(random))


def builds(make: Callable[..., T], *arguments: SearchStrategy[Any]) -> SearchStrategy[T]:
    return SearchStrategy(lambda random: make(*(argument.draw(random) for argument in arguments)))


def fixed_dictionaries(strategies: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[dict[str, Any]]:
    return SearchStrategy(lambda random: {name: each.draw(random) for name, each in strategies.items()})


def composite(make: Callable[Concatenate[DrawFn, ...], T]) -> Callable[..., SearchStrategy[T]]:
    return lambda *arguments: SearchStrategy(lambda random: make(lambda strategy: strategy.draw(random), *arguments))
