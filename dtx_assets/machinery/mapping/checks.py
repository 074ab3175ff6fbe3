"""What `checks.yaml` may say: checks of landed tables that are conditions on columns. How they ask is in `checks`.

The JSON Schema that editors complete the file with is made from these classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.mapping.decisions import Strict
from dtx_assets.machinery.mapping.model import Condition, Names, OneOrMore, as_list
from dtx_assets.machinery.mapping.validate import Known, Place
from dtx_assets.machinery.model.legacy import LegacyTable


class CheckCondition(Condition):
    """What is asked of one column of a row: what rules of mapping files ask, and whether a value map lists it."""

    value: str | None = Field(None, description="not here: nothing is made yet of rows that are checked")
    listed_in: str | None = Field(
        None, description="a value map that lists it in its first column, compared without case and the blanks around"
    )
    not_listed_in: str | None = Field(None, description="a value map that does not list it; none lists NULL")

    asks: ClassVar[tuple[str, ...]] = (*Condition.asks, "listed_in", "not_listed_in")

    @model_validator(mode="after")
    def _asks_of_a_column(self) -> "CheckCondition":
        if self.value is not None:
            raise ValueError("asks of a value that is made, and a check reads rows as they landed; say `column: …`")
        return self


CheckConditions = Annotated[tuple[CheckCondition, ...], BeforeValidator(as_list), OneOrMore()]


class WrittenCheck(Strict):
    """A check that passes where its conditions hold for no row. Its name says what is so then."""

    description: str = Field(min_length=1, description="what is so when it passes: people read it beside the result")
    severity: Literal["ERROR", "WARN"] = Field(
        "WARN", description="`ERROR` makes the exit code 3, `WARN` is only shown"
    )
    blocking: bool = Field(False, description="whether a cutover loads nothing while it fails at ERROR")
    replaces: Names = Field((), description="columns of the table whose derived checks it stands for")
    find: CheckConditions = Field((), description="what is wrong with a row: all of it holds")
    find_any: CheckConditions = Field((), description="what is wrong with a row: some of it holds")
    show: Names = Field((), description="columns that examples show beside the key")
    values: dict[str, str] = Field({}, description="name → column: how often each value is in the rows that are found")
    all_values: dict[str, str] = Field({}, description="name → column: the same in all rows")
    distinct: bool = Field(
        False, description="whether the values of the first of `values` count, in place of rows; all are trimmed then"
    )
    do: str = Field("", description="what is to be done, shown beside")

    @model_validator(mode="after")
    def _asks(self) -> "WrittenCheck":
        if bool(self.find) == bool(self.find_any):
            raise ValueError("finds nothing, or in two ways; give one of `find` and `find_any`")
        if self.distinct and not self.values:
            raise ValueError("`distinct` counts values, and there are none; name a column: `values: …`")
        if self.blocking and self.severity != "ERROR":
            raise ValueError("`blocking` says nothing here, only an ERROR blocks; add `severity: ERROR`")
        return self

    @property
    def conditions(self) -> tuple[CheckCondition, ...]:
        return self.find or self.find_any

    @property
    def listed_under(self) -> str:
        """The key that has them."""
        return "find" if self.find else "find_any"


class ChecksFile(Strict):
    """Checks of landed tables that are conditions; all others are functions."""

    legacy: dict[str, dict[str, WrittenCheck]] = Field(description="legacy table: its checks by name")


@dataclass(frozen=True)
class PlacedCheck:
    """A check of a legacy table, and its file and line."""

    table: str
    name: str
    check: WrittenCheck
    where: str


def read_checks(file: YamlFile, known: Known, findings: Findings) -> tuple[PlacedCheck, ...]:
    """The checks of a file; what is wrong with them goes to the findings."""
    said = parse_model(file, ChecksFile, findings)
    if said is None:
        return ()
    found: list[PlacedCheck] = []
    for table, checks in said.legacy.items():
        place = Place(file, ("legacy", table), findings)
        if table not in known.legacy_tables:
            place.unknown("legacy table", table, known.legacy_tables)
            continue
        for name, check in checks.items():
            _require_known(place / name, check, known.legacy_tables[table], known)
            found.append(PlacedCheck(table, name, check, file.where((place / name).location)))
    return tuple(found)


def _require_known(place: Place, check: WrittenCheck, table: LegacyTable, known: Known) -> None:
    for where, column in _columns(place, check):
        if column not in table.columns:
            where.wrong(f"{table.name} has no column {column!r}", suggestion(column, table.columns))
    listing = place / check.listed_under
    for number, condition in enumerate(check.conditions):
        for key in ("listed_in", "not_listed_in"):
            name = getattr(condition, key)
            if name is not None and name not in known.value_maps and name not in known.unreadable:
                (listing / number / key).unknown("value map", name, known.value_maps)


def _columns(place: Place, check: WrittenCheck) -> Iterator[tuple[Place, str]]:
    """The columns that a check names, and where it does."""
    listing = place / check.listed_under
    yield from ((listing / number / "column", str(each.column)) for number, each in enumerate(check.conditions))
    yield from ((place / "show" / number, name) for number, name in enumerate(check.show))
    yield from ((place / "replaces" / number, name) for number, name in enumerate(check.replaces))
    yield from ((place / "values" / name, column) for name, column in check.values.items())
    yield from ((place / "all_values" / name, column) for name, column in check.all_values.items())


def checks_schema() -> dict[str, Any]:
    """The JSON Schema of `checks.yaml`, shipped as `mappings/checks.schema.json`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ChecksFile.model_json_schema(by_alias=True),
        "title": "Own checks of a system that are conditions",
    }
