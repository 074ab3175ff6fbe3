"""`sample.yaml`, beside the mapping files: what of a system's sample its declarations do not say.

Every column that it does not name is made by its kind, its references and what the mapping files take.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.mapping.load import SAMPLE
from dtx_assets.machinery.system.system import System

Scalar = str | int | bool | None


def _weighted(value: Any) -> Any:
    """A list of values, or each with how often it comes among the others."""
    if isinstance(value, dict):
        return tuple(each for each, times in value.items() for _ in range(times))
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnSample(_Strict):
    """What a column holds, and how often it is NULL."""

    values: Annotated[tuple[Scalar, ...], BeforeValidator(_weighted)] = Field(
        default=(), description="the values, in equal parts; or each with its weight"
    )
    in_turn: bool = Field(default=False, description="the values come one after the other, not at random")
    below: int | None = Field(default=None, description="numbers from 0, less than this one")
    of: str | None = Field(default=None, description="the values of another table's column: `table.column`")
    by: str | None = Field(default=None, description="the function of the system that makes it")
    unique: bool = Field(default=False, description="no value comes twice")
    null: float | None = Field(default=None, ge=0, le=1, description="the share of rows in which it is NULL")

    @model_validator(mode="after")
    def _one_way(self) -> "ColumnSample":
        ways = [name for name in ("values", "below", "of", "by") if getattr(self, name) not in (None, ())]
        if len(ways) > 1:
            raise ValueError(f"says {' and '.join(ways)}; keep one: a column is made in one way")
        if self.in_turn and not self.values:
            raise ValueError("`in_turn` says nothing here; it belongs to values, remove it")
        if self.of and not self.of.rpartition(".")[0]:
            raise ValueError(f"{self.of!r} names no table; write table.column")
        return self


class TableSample(_Strict):
    """How many rows a table has, and what its columns hold."""

    share: float = Field(default=1.0, gt=0, description="rows, as a share of those that are asked for")
    at_least: int = Field(default=1, ge=1, description="rows at least, where fewer are asked for")
    rows: int | None = Field(default=None, ge=0, description="rows, however many are asked for")
    by: str | None = Field(default=None, description="the function of the system that makes all its columns")
    windows: bool = Field(default=False, description="an ugly sample has it with a byte-order mark and CRLF")
    columns: dict[str, ColumnSample] = Field(
        default={}, description="by column; any other is made by what is declared of it"
    )


class SampleFile(_Strict):
    """`sample.yaml`."""

    tables: dict[str, TableSample] = Field(default={}, description="legacy tables and crosswalks by name")
    targets: dict[str, TableSample] = Field(default={}, description="models that others fill: their rows in the target")
    ugly: tuple[str, ...] = Field(default=(), description="functions of the system that add ugly rows")
    own_ugly_only: bool = Field(default=False, description="whether rules are broken by those functions alone")


def sample_declarations(system: System, functions: Mapping[str, Callable[..., Any]]) -> SampleFile:
    """What `sample.yaml` of a system says, where there is one; ConfigurationError lists all that is wrong with it."""
    path = system.mappings_dir / SAMPLE
    if not path.exists():
        return SampleFile()
    findings = Findings()
    file = YamlFile(path)
    declared = parse_model(file, SampleFile, findings)
    if declared:
        _check(file, declared, system, functions, findings)
    findings.raise_if_any()
    assert declared
    return declared


def _check(
    file: YamlFile,
    declared: SampleFile,
    system: System,
    functions: Mapping[str, Callable[..., Any]],
    findings: Findings,
) -> None:
    tables = {**system.legacy_tables, **system.crosswalk_tables}
    sides: tuple[tuple[str, Mapping[str, TableSample], dict[str, Iterable[str]]], ...] = (
        ("tables", declared.tables, {name: table.columns for name, table in tables.items()}),
        (
            "targets",
            declared.targets,
            {table.model: (*table.key, *(each.name for each in table.columns)) for table in system.targets},
        ),
    )
    known = {name: set(columns) for _, _, side in sides for name, columns in side.items()}
    for side, entries, columns in sides:
        for name, entry in entries.items():
            if name not in columns:
                findings.add(f"there is no {name!r}", file.where([side, name]), suggestion(name, columns))
                continue
            _check_function(file, [side, name, "by"], entry.by, functions, findings)
            for column, sample in entry.columns.items():
                place = [side, name, "columns", column]
                if column not in known[name] and not entry.by:
                    remedy = suggestion(column, known[name])
                    findings.add(f"{name} has no column {column!r}", file.where(place), remedy)
                _check_function(file, [*place, "by"], sample.by, functions, findings)
                table, _, other = (sample.of or "").rpartition(".")
                if sample.of and other not in known.get(table, ()):
                    remedy = suggestion(other, known[table]) if table in known else suggestion(table, known)
                    findings.add(f"there is no column {sample.of!r}", file.where([*place, "of"]), remedy)
    for number, function in enumerate(declared.ugly):
        _check_function(file, ["ugly", number], function, functions, findings)


def _check_function(
    file: YamlFile, place: list[str | int], name: str | None, known: Mapping[str, object], findings: Findings
) -> None:
    if name is not None and name not in known:
        findings.add(f"there is no function {name!r}", file.where(place), suggestion(name, known))
