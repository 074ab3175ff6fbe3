"""The functions that mapping files name: what a table of columns cannot say. One signature for all of them."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

FlowFunction = Callable[[Any, Any], Any]
"""Frame of one batch and `FlowInputs` → frame. It keeps `_row`, `_source_key` and `_bucket` (a `merge` does not)."""

Made = TypeVar("Made", bound=FlowFunction)


class Functions(Mapping[str, FlowFunction]):
    """Functions by name; `register` and `telling` are decorators."""

    def __init__(self) -> None:
        self._functions: dict[str, FlowFunction] = {}
        self.told: dict[str, tuple[str, ...]] = {}
        """By function, the columns of which it tells the cells that made them, where it is asked."""

    def register(self, function: Made) -> Made:
        name = function.__name__
        if name in self._functions:
            raise ValueError(f"two functions are called {name!r}")
        if len(inspect.signature(function).parameters) != 2:
            raise ValueError(f"{name} must take a frame and the inputs of the flow, and nothing else")
        self._functions[name] = function
        return function

    def telling(self, *columns: str) -> Callable[[Made], Made]:
        """Registers a function that tells, by `FlowInputs.told`, which cells make these columns of a row."""

        def register(function: Made) -> Made:
            self.told[function.__name__] = columns
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
