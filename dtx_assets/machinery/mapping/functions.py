"""The functions that mapping files name: what a table of columns cannot say. One signature for all of them."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from dtx_assets.machinery.mapping.provenance import MadeOf

FlowFunction = Callable[[Any, Any], Any]
"""Frame of one batch and `FlowInputs` → frame. It keeps `_row`, `_source_key` and `_bucket` (a `merge` does not)."""

CellsOfParts = Callable[[Mapping[str, str]], Iterable[tuple[str, Mapping[str, MadeOf]]]]
"""The chosen options → each part that there can be, with the cells that make its columns, whatever the row."""

Made = TypeVar("Made", bound=FlowFunction)


class Functions(Mapping[str, FlowFunction]):
    """Functions by name; `register` and `telling` are decorators."""

    def __init__(self) -> None:
        self._functions: dict[str, FlowFunction] = {}
        self.told: dict[str, tuple[str, ...]] = {}
        """By function, the columns of which it tells the cells that made them, where it is asked."""
        self.parts: dict[str, CellsOfParts] = {}
        """By function, the cells of the parts that it makes, before there is any row."""

    def register(self, function: Made) -> Made:
        name = function.__name__
        if name in self._functions:
            raise ValueError(f"two functions are called {name!r}")
        if len(inspect.signature(function).parameters) != 2:
            raise ValueError(f"{name} must take a frame and the inputs of the flow, and nothing else")
        self._functions[name] = function
        return function

    def telling(self, *columns: str, parts: CellsOfParts | None = None) -> Callable[[Made], Made]:
        """Registers a function that tells, by `FlowInputs.told`, which cells make these columns of a row.

        `parts` says the same of each part that it makes, where that is so whatever the row holds.
        """

        def register(function: Made) -> Made:
            self.told[function.__name__] = columns
            if parts:
                self.parts[function.__name__] = parts
            return self.register(function)

        return register

    def __getitem__(self, name: str) -> FlowFunction:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)


def told_by(functions: Mapping[str, FlowFunction], name: str | None) -> tuple[str, ...]:
    """The columns of which a function tells the cells that made them."""
    return functions.told.get(name or "", ()) if isinstance(functions, Functions) else ()


def cells_of_parts(
    functions: Mapping[str, FlowFunction], name: str | None, decisions: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, MadeOf]]]:
    """The parts that a function makes with the cells of their columns; none where only a row can say."""
    said = functions.parts.get(name or "") if isinstance(functions, Functions) else None
    yield from said(decisions) if said else ()
