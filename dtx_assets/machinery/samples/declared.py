"""`sample.yaml`, beside the mapping files: what of a system's sample its declarations do not say.

Every column that it does not name is made by its kind, its references and what the mapping files take.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dtx_assets.machinery.base.yaml_file import Findings, YamlFile, parse_model, suggestion
from dtx_assets.machinery.mapping.load import SAMPLE
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetTable
from dtx_assets.machinery.samples.csv_output import Verbatim
from dtx_assets.machinery.system.system import System

Scalar = str | int | bool | None


def _weighted(value: Any) -> Any:
    """A list of values, or each with how often it comes among the others."""
    if isinstance(value, dict):
        return tuple(each for each, times in value.items() for _ in range(times))
    return value


def cell_of(value: Any) -> Any:
    """A cell of an ugly row: text, or what YAML cannot say of bytes."""
    if isinstance(value, dict):
        [(how, written)] = value.items() if len(value) == 1 else [("", "")]
        if how not in ("bytes", "written"):
            raise ValueError("a cell says neither `bytes` nor `written`; give a text, or one of both")
        raw = str(written).encode("latin-1")
        return raw if how == "bytes" else Verbatim(raw)
    return value


def _cells(value: Any) -> Any:
    return [cell_of(each) for each in value] if isinstance(value, list) else cell_of(value)


UglyCells = Annotated[Any, BeforeValidator(_cells)]
"""A cell, or a list of them."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ColumnSample(_Strict):
    """What a column holds, and how often it is NULL."""

    values: Annotated[tuple[Scalar, ...], BeforeValidator(_weighted)] = Field(
        default=(), description="the values, in equal parts; or each with its weight"
    )
    in_turn: bool = Field(default=False, description="the values come one after the other, not at random")
    below: int | None = Field(default=None, description="numbers from 0, less than this one")
    since: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = Field(
        default=None, description="days, or times, from this day on"
    )
    days: int = Field(default=4_400, ge=1, description="so many days they are of")
    count_from: int | None = Field(default=None, description="numbers that count the rows, from this one on")
    of: str | None = Field(default=None, description="the values of another table's column: `table.column`")
    by: str | None = Field(default=None, description="the function of the system that makes it")
    unique: bool = Field(default=False, description="no value comes twice")
    null: float | None = Field(default=None, ge=0, le=1, description="the share of rows in which it is NULL")

    @model_validator(mode="before")
    @classmethod
    def _values_alone(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"values": value if isinstance(value, list) else [value]}

    @model_validator(mode="after")
    def _one_way(self) -> "ColumnSample":
        possible = ("values", "below", "since", "count_from", "of", "by")
        ways = [name for name in possible if getattr(self, name) not in (None, ())]
        if len(ways) > 1:
            raise ValueError(f"says {' and '.join(ways)}; keep one: a column is made in one way")
        if self.in_turn and not self.values:
            raise ValueError("`in_turn` says nothing here; it belongs to values, remove it")
        if "days" in self.model_fields_set and not self.since:
            raise ValueError("`days` says nothing here; it belongs to since, remove it")
        if self.of and not self.of.rpartition(".")[0]:
            raise ValueError(f"{self.of!r} names no table; write table.column")
        return self


class TableSample(_Strict):
    """How many rows a table has, and what its columns hold. Up to 100 rows, it has as many as are asked for."""

    share: float = Field(default=1.0, gt=0, description="rows, as a share of those that are asked for, if over 100")
    at_least: int | None = Field(default=None, ge=1, description="rows at least, however few are asked for")
    rows: int | None = Field(default=None, ge=0, description="rows, however many are asked for")
    as_many_as: str | None = Field(default=None, description="the table that has as many rows")
    times: int = Field(default=1, ge=1, description="rows for each row of that table")
    by: str | None = Field(
        default=None,
        description="the function of the system that makes the columns that `columns` does not name; a row whose "
        "first column it leaves NULL is none",
    )
    windows: bool = Field(default=False, description="an ugly sample has it with a byte-order mark and CRLF")
    columns: dict[str, ColumnSample] = Field(
        default={},
        description="by column, one of those that no declaration names too; any other is made by what is declared",
    )


class Kind(_Strict):
    """What there is in the tables for one thing of a kind, in ugly rows."""

    let: dict[str, Any] = Field(
        default={}, description="names that its rows refer to as `{ the: name }`, each with what it usually is"
    )
    rows: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = Field(
        description="its rows: `table`, or `new` for one of another kind, and cells; with `for: { name: names }` one"
        " for each. The cells that a step names are those of the last one"
    )
    gives: str | None = Field(default=None, description="which of the names stands for it elsewhere")

    @model_validator(mode="after")
    def _known(self) -> "Kind":
        if self.gives is not None and self.gives not in self.let:
            raise ValueError(f"gives {self.gives!r}, which `let` does not name; name one that it does")
        return self


class SampleFile(_Strict):
    """`sample.yaml`."""

    tables: dict[str, TableSample] = Field(default={}, description="legacy tables and crosswalks by name")
    targets: dict[str, TableSample] = Field(default={}, description="models that others fill: their rows in the target")
    files: str | None = Field(
        default=None, description="the function of the system that writes what is no table into the directory"
    )
    ugly: tuple[str, ...] = Field(default=(), description="functions of the system that add ugly rows")
    ugly_rows: dict[str, tuple[dict[str, UglyCells], ...]] = Field(
        default={},
        description="cells of ugly rows, by the name that those functions ask for; a list is a row for each value",
    )
    kinds: dict[str, Kind] = Field(default={}, description="what there is for one of a kind, for stories")
    stories: dict[str, tuple[dict[str, Any], ...]] = Field(
        default={},
        description="ugly rows that belong together, step by step: `new` makes one of a kind, `table` a row, each as"
        " usual but for the cells that follow; `as` names it, `set` a value; `listed` makes one for each of"
        " `ugly_rows`, `times` so many. A cell is a text, `{ the: name }`, `{ id: counter }`, `{ new: kind, … }`,"
        " `{ bytes: … }` or `{ written: … }`",
    )
    ugly_ids_from: int = Field(default=900_000_001, description="the first id that stories count, of each counter")
    lists: dict[str, tuple[Scalar, ...]] = Field(default={}, description="values that functions ask for by name")
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
    by_table: dict[str, list[TargetTable]] = {}
    for target in system.targets:
        by_table.setdefault(target.name, []).append(target)
    sides: tuple[tuple[str, Mapping[str, TableSample], dict[str, Iterable[str]]], ...] = (
        ("tables", declared.tables, {name: table.columns for name, table in tables.items()}),
        (
            "targets",
            declared.targets,
            # Several models may fill one table.
            {
                table.model: (*table.key, *(each.name for same in by_table[table.name] for each in same.columns))
                for table in system.targets
            },
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
                if column not in known[name] and not entry.by and not _may_have_more(tables.get(name)):
                    remedy = suggestion(column, known[name])
                    findings.add(f"{name} has no column {column!r}", file.where(place), remedy)
                _check_function(file, [*place, "by"], sample.by, functions, findings)
                table, _, other = (sample.of or "").rpartition(".")
                if sample.of and other not in known.get(table, ()):
                    remedy = suggestion(other, known[table]) if table in known else suggestion(table, known)
                    findings.add(f"there is no column {sample.of!r}", file.where([*place, "of"]), remedy)
            if entry.as_many_as and entry.as_many_as not in known:
                findings.add(
                    f"there is no table {entry.as_many_as!r}",
                    file.where([side, name, "as_many_as"]),
                    suggestion(entry.as_many_as, known),
                )
    _check_function(file, ["files"], declared.files, functions, findings)
    for number, function in enumerate(declared.ugly):
        _check_function(file, ["ugly", number], function, functions, findings)


def _may_have_more(table: LegacyTable | None) -> bool:
    """Whether a table is known to have columns that nobody named."""
    return table is not None and (table.column_count or 0) > len(table.columns)


def _check_function(
    file: YamlFile, place: list[str | int], name: str | None, known: Mapping[str, object], findings: Findings
) -> None:
    if name is not None and name not in known:
        findings.add(f"there is no function {name!r}", file.where(place), suggestion(name, known))
