"""YAML files as people edit them: read safely, with the line of every entry, and all that is wrong told at once."""

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from dtx_assets.machinery.base.errors import ConfigurationError

MOST_REPEATED = 10_000
"""So many entries aliases may stand for in one file."""
DEEPEST = 50
"""So deep lists and mappings may be nested."""


@lru_cache(maxsize=128)
def _parsed(text: str) -> Any:
    """The content of YAML; it is shared, and nobody may change it."""
    _require_bounded(text)
    # The round-trip loader makes plain values only, as the safe one does, and keeps the lines.
    return YAML(typ="rt").load(text)


def _require_bounded(text: str) -> None:
    """Refuse what would grow without end when aliases are followed, and nesting that nobody writes."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = repeated = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_nodes):
                raise _Unbounded(f"*{event.anchor} stands within &{event.anchor} itself", line)
            size += sizes.get(event.anchor, 0)
            repeated += sizes.get(event.anchor, 0)
            if repeated > MOST_REPEATED:
                raise _Unbounded(f"aliases repeat more than {MOST_REPEATED:,} entries", line)
        elif isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, size))
            size += 1
            if len(open_nodes) > DEEPEST:
                raise _Unbounded(f"entries are nested more than {DEEPEST} deep", line)
        elif isinstance(event, CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, ScalarEvent):
            size += 1
            if event.anchor:
                sizes[event.anchor] = 1


class _Unbounded(Exception):
    """What of a text is out of bounds, and the line where it becomes so."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


class YamlFile:
    """The content of a YAML file and where each entry of it stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content: Any = _parsed(path.read_text("utf-8-sig"))
        except FileNotFoundError:
            raise ConfigurationError(
                "a file is missing", where=str(path), remedy="put it back, or correct the path"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"a file cannot be read: {error.strerror}", where=str(path), remedy="name a file that can be read"
            ) from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigurationError(
                "the file is not UTF-8", where=f"{path}:{line}", remedy="save it in the encoding UTF-8"
            ) from None
        except _Unbounded as error:
            raise ConfigurationError(
                str(error), where=f"{path}:{error.line}", remedy="write out what is meant, in fewer entries"
            ) from None
        except MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            raise ConfigurationError(f"not valid YAML: {error.problem}", where=where, remedy="mend the line") from None
        if not isinstance(self.content, CommentedMap):
            raise ConfigurationError(
                "the file does not hold a mapping of names to values",
                where=f"{path}:1",
                remedy="see the examples beside it",
            )

    def line(self, location: Sequence[str | int]) -> int:
        """The line, from 1, of the entry that `location` leads to, or of the nearest one above it."""
        node, line = self.content, 1
        for step in location:
            try:
                if isinstance(node, CommentedMap):
                    key = next(key for key in node if key_text(key) == str(step))
                    line, node = node.lc.key(key)[0] + 1, node[key]
                elif isinstance(node, CommentedSeq):
                    line, node = node.lc.item(step)[0] + 1, node[step]
                else:
                    break
            except (StopIteration, KeyError, IndexError, TypeError):
                break
        return line

    def where(self, location: Sequence[str | int]) -> str:
        return f"{self.path}:{self.line(location)}"


class Findings:
    """All that is wrong with a set of files, so that it can be told at once."""

    def __init__(self) -> None:
        self.errors: list[ConfigurationError] = []

    def add(self, what: str, where: str, remedy: str) -> None:
        self.errors.append(ConfigurationError(what, where=where, remedy=remedy))

    def raise_if_any(self) -> None:
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigurationError(
                f"{len(self.errors)} things are wrong with the mapping files\n"
                + "\n".join(str(error) for error in self.errors)
            )


Model = TypeVar("Model", bound=BaseModel)


def parse_model(file: YamlFile, model: type[Model], findings: Findings) -> Model | None:
    """The content of a file as `model`; what does not fit goes to the findings with its line."""
    try:
        return model.model_validate(plain(file.content))
    except ValidationError as error:
        for problem in error.errors():
            location = list(problem["loc"])
            name = str(location[-1]) if location else ""
            if problem["type"] == "extra_forbidden":
                known = _keys_at(model, location[:-1])
                what, remedy = f"unknown key {name!r}", suggestion(name, known)
            elif problem["type"] == "missing":
                what, remedy = f"{name!r} is missing", f"add `{name}: …`"
            elif problem["type"] == "value_error":
                what, _, remedy = str(problem["ctx"]["error"]).partition("; ")
            else:
                what = f"{name!r} cannot be {str(problem['input'])[:40]!r}"
                remedy = problem["msg"].replace("Input should be", "it should be")
            findings.add(what, file.where(location), remedy)
        return None


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys that are allowed where `location` leads to, found by walking the model's types."""
    current: Any = model
    for step in location:
        if _is_model(current):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            if step not in fields:
                return []
            current = fields[str(step)].annotation
        else:
            # What a list or a dict holds: the value's type comes last, but for the dots of a tuple.
            inside = [argument for argument in get_args(current) if argument is not Ellipsis]
            current = inside[-1] if inside else None
        current = (
            next((argument for argument in get_args(current) if _is_model(argument)), current)
            if _is_union(current)
            else current
        )
    return [field.alias or name for name, field in current.model_fields.items()] if _is_model(current) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def key_text(key: Any) -> str:
    """A key as it was meant: `null`, `true` and `false` are names here, as any other word."""
    return {None: "null", True: "true", False: "false"}[key] if key is None or isinstance(key, bool) else str(key)


def plain(node: Any) -> Any:
    """The value without the positions that ruamel keeps in it."""
    if isinstance(node, dict):
        return {key_text(key): plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [plain(value) for value in node]
    if isinstance(node, str):
        return str(node)
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    return node


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown name."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of: {', '.join(sorted(known))}" if known else "remove it"
