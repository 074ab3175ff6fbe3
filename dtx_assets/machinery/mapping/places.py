"""Leads what goes wrong while rows are made to the line of the mapping file that has them made so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.base.yaml_file import YamlFile

if TYPE_CHECKING:
    from dtx_assets.machinery.mapping.load import Mappings


@contextmanager
def told_where(mappings: "Mappings", model: str, *location: str) -> Iterator[None]:
    """Errors of the block with the file of a model and the line of an entry of it, besides what they name themselves.

    `location`: the keys that lead to the entry. What an inner block has told stays.
    """
    try:
        yield
    except (ConfigurationError, StructureError) as error:
        path = mappings.files.get(model)
        if path is None or str(path) in (error.where or ""):
            raise
        said = [f"{path}:{_line(path, location)}", *([error.where] if error.where else [])]
        raise type(error)(error.what, where=", ".join(said), remedy=error.remedy) from error


def _line(path: Path, location: tuple[str, ...]) -> int:
    """The line of an entry; 1 where the file cannot be read any more."""
    try:
        return YamlFile(path).line(location)
    except ConfigurationError:
        return 1
