"""YAML files as people edit them: read safely, with the line of every entry, and all that is wrong told at once."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from dtx_assets.machinery.errors import ConfigurationError


class YamlFile:
    """The content of a YAML file and where each entry of it stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The round-trip loader makes plain values only, as the safe one does, and keeps the lines.
            self.content: Any = YAML(typ="rt").load(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(
                "a file is missing", where=str(path), remedy="put it back, or correct the path"
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
                    line = node.lc.key(step)[0] + 1
                elif isinstance(node, CommentedSeq):
                    line = node.lc.item(step)[0] + 1
                else:
                    break
                node = node[step]
            except (KeyError, IndexError, TypeError):
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
            location = [step for step in problem["loc"] if not str(step).startswith("function-")]
            known = (
                [name for name, field in _fields_at(model, location[:-1])]
                if problem["type"] == "extra_forbidden"
                else []
            )
            remedy = (
                suggestion(str(location[-1]), known)
                if known
                else "see the mapping schema, mappings/mapping.schema.json"
            )
            what = f"unknown key {location[-1]!r}" if known else f"{'.'.join(map(str, location))}: {problem['msg']}"
            findings.add(what, file.where(location), remedy)
        return None


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[tuple[str, Any]]:
    """The keys that are allowed where `location` leads to, found by walking the model's types."""
    current: Any = model
    for step in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = {field.alias or name: field for name, field in current.model_fields.items()}
            if step not in fields:
                return []
            current = fields[str(step)].annotation
        current = _model_inside(current)
        if current is None:
            return []
    if isinstance(current, type) and issubclass(current, BaseModel):
        return [(field.alias or name, field) for name, field in current.model_fields.items()]
    return []


def _model_inside(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_inside(argument)
        if found is not None:
            return found
    return None


def plain(node: Any) -> Any:
    """The value without the positions that ruamel keeps in it."""
    if isinstance(node, dict):
        return {str(key): plain(value) for key, value in node.items()}
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
