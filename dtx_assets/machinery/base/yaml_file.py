"""YAML files as people edit them: read safely, with the line of every entry, and all that is wrong told at once."""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from yaml.error import MarkedYAMLError, YAMLError

from dtx_assets.machinery.base.errors import ConfigurationError

# LibYAML reads a file some forty times faster than Python does; wheels of PyYAML have it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MOST_REPEATED = 10_000
"""So many entries aliases may stand for in one file."""
DEEPEST = 50
"""So deep lists and mappings may be nested."""

TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"


class _Loader(_SafeLoader):
    """Plain values only, as YAML 1.2 tells them: `yes`, `no` and `on` are texts, and no number has base 8 or 60."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag in (MERGE, f"{TAG}timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(f"{TAG}{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


_Loader.add_constructor(f"{TAG}int", _integer)


@lru_cache(maxsize=128)
def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of YAML, which know their lines, and its content; both are shared, and nobody may change them."""
    _require_bounded(text)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else _content(loader, node, set())
    finally:
        loader.dispose()


def _content(loader: _Loader, node: yaml.Node, merged: set[yaml.Node]) -> Any:
    """The content of a node; `merged` are the mappings that hold by now what they took over from others."""
    if isinstance(node, yaml.CollectionNode) and node.tag not in (f"{TAG}seq", f"{TAG}map"):
        raise MarkedYAMLError(problem=f"there is no constructor for the tag {node.tag!r}", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_content(loader, item, merged) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    if node not in merged:
        _require_different_keys(node)
    if any(key.tag == MERGE for key, _ in node.value):
        loader.flatten_mapping(node)
        merged.add(node)
    return {key_text(key): _content(loader, value, merged) for key, value in node.value}


def _require_different_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key_text(key) in seen:
            raise MarkedYAMLError(problem=f'found duplicate key "{key_text(key)}"', problem_mark=key.start_mark)
        if key.tag != MERGE:
            seen.add(key_text(key))


def key_text(key: yaml.Node) -> str:
    """A key as it is written: `null`, `true` and `007` are names here, as any other word."""
    if not isinstance(key, yaml.ScalarNode):
        raise MarkedYAMLError(problem="found a list or a mapping as a key", problem_mark=key.start_mark)
    return str(key.value)


def _require_bounded(text: str) -> None:
    """Refuse what would grow without end when aliases are followed, and nesting that nobody writes."""
    sizes: dict[str | None, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = repeated = 0
    events: Iterable[Any] = yaml.parse(text, Loader=_Loader)
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == anchor for anchor, _ in open_nodes):
                raise _Unbounded(f"*{event.anchor} stands within &{event.anchor} itself", line)
            size += sizes.get(event.anchor, 0)
            repeated += sizes.get(event.anchor, 0)
            if repeated > MOST_REPEATED:
                raise _Unbounded(f"aliases repeat more than {MOST_REPEATED:,} entries", line)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, size))
            size += 1
            if len(open_nodes) > DEEPEST:
                raise _Unbounded(f"entries are nested more than {DEEPEST} deep", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = size - before
        elif isinstance(event, yaml.ScalarEvent):
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
            self._node, self.content = _parsed(path.read_text("utf-8-sig"))
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
        except YAMLError as error:
            raise ConfigurationError(f"not valid YAML: {error}", where=str(path), remedy="mend the file") from None
        if not isinstance(self.content, dict):
            raise ConfigurationError(
                "the file does not hold a mapping of names to values",
                where=f"{path}:1",
                remedy="see the examples beside it",
            )

    def line(self, location: Sequence[str | int]) -> int:
        """The line, from 1, of the entry that `location` leads to, or of the nearest one above it."""
        node, line = self._node, 1
        for step in location:
            if isinstance(node, yaml.MappingNode):
                found = next((entry for entry in node.value if key_text(entry[0]) == str(step)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
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

    def raise_if_any(self, of: str = "the mapping files") -> None:
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigurationError(
                f"{len(self.errors)} things are wrong with {of}\n" + "\n".join(str(error) for error in self.errors)
            )


Model = TypeVar("Model", bound=BaseModel)


def parse_model(file: YamlFile, model: type[Model], findings: Findings) -> Model | None:
    """The content of a file as `model`; what does not fit goes to the findings with its line."""
    try:
        return model.model_validate(file.content)
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


def suggestion(name: str, known: Iterable[str], *, all_told: bool = False) -> str:
    """What to write instead of an unknown name: the one that is nearly it, else (or too) all that there are."""
    known = list(known)
    alike = {each.casefold(): each for each in reversed(known)}
    listed = f"use one of: {', '.join(sorted(known))}" if known else "remove it"
    if close := difflib.get_close_matches(name.casefold(), alike, n=1):
        return f"did you mean {alike[close[0]]!r}?" + (f" Else {listed}" if all_told else "")
    return listed
