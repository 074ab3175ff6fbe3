"""Ugly rows that belong together, as `sample.yaml` tells them: kinds of things, and stories of what befalls some.

A *kind* says which rows there are for one of it, in one table or several, and which name of it others refer to. A
*story* is a list of steps: each makes one of a kind, or a row of a table, as usual but for the cells that it names.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.yaml_file import YamlFile, suggestion
from dtx_assets.machinery.mapping.load import SAMPLE
from dtx_assets.machinery.samples.declared import Kind, SampleFile, cell_of
from dtx_assets.machinery.samples.ugly import Row, UglyRows

if TYPE_CHECKING:
    from dtx_assets.machinery.samples.sample import Sample

Names = dict[str, Any]


def own_ugly_rows(sample: "Sample", functions: Mapping[str, Callable[..., Any]]) -> dict[str, list[Row]]:
    """By table, what functions of the system add, and then what is told in stories."""
    ugly = UglyRows(sample)
    for name in sample.declared.ugly:
        functions[name](ugly)
    if sample.declared.stories:
        tell(ugly, sample.declared, YamlFile(sample.system.mappings_dir / SAMPLE))
    return dict(ugly.tables)


def tell(ugly: UglyRows, declared: SampleFile, file: YamlFile) -> None:
    """Adds the rows of all stories; ConfigurationError with file and line where one names what is not there."""
    teller = _Teller(ugly, declared, file)
    for story, steps in declared.stories.items():
        names: Names = {}
        for number, step in enumerate(steps):
            teller.place = ("stories", story, number)
            teller.step(step, names)


@dataclass
class _Teller:
    ugly: UglyRows
    declared: SampleFile
    file: YamlFile
    place: tuple[str | int, ...] = ()
    used: Counter[str] = field(default_factory=Counter)

    def step(self, step: Mapping[str, Any], names: Names) -> None:
        said = dict(step)
        listed, times, name = said.pop("listed", None), said.pop("times", 1), said.pop("as", None)
        if "set" in said:
            names[name] = self.value(said["set"], names)
            return
        if listed is not None and listed not in self.declared.ugly_rows:
            self._unknown("list of cells", listed, self.declared.ugly_rows)
        for cells in self.ugly.listed(listed) if listed else [{}] * times:
            made = self.make({**said, **cells}, names)
            if name:
                names[name] = made

    def make(self, said: Mapping[str, Any], names: Names) -> Any:
        """One of a kind, or a row; gives what the kind gives."""
        given = {name: self.value(value, names) for name, value in said.items() if name not in ("new", "table")}
        if "new" not in said:
            self._add(said.get("table"), given)
            return None
        return self._one_of(said["new"], given, names)

    def _one_of(self, name: str, given: Mapping[str, Any], names: Names) -> Any:
        if name not in self.declared.kinds:
            self._unknown("kind", name, self.declared.kinds)
        kind: Kind = self.declared.kinds[name]
        own = {**names}
        for each, value in kind.let.items():
            own[each] = given[each] if each in given else self.value(value, own)
        cells = {each: value for each, value in given.items() if each not in kind.let}
        for row in kind.rows[:-1]:
            self._row(row, {}, own)
        self._row(kind.rows[-1], cells, own)
        return own[kind.gives] if kind.gives else None

    def _row(self, row: Mapping[str, Any], cells: Mapping[str, Any], names: Names) -> None:
        """A row of a kind, or one for each of a list, or one of another kind; `cells` take the place of its own."""
        said = dict(row)
        [(each, several)] = said.pop("for", {"": None}).items()
        for value in names[several] if several else [None]:
            scope = {**names, each: value}
            # An id is counted for each row, whether it has it or is given another.
            made = {
                column: self.value(usual, scope)
                for column, usual in said.items()
                if column not in ("new", "table") and (column not in cells or _is_id(usual))
            }
            made |= cells
            if "new" in said:
                self._one_of(said["new"], made, scope)
            else:
                self._add(said.get("table"), made)

    def value(self, value: Any, names: Names) -> Any:
        if isinstance(value, list | tuple):
            return [self.value(each, names) for each in value]
        if not isinstance(value, dict):
            return value
        if _is_id(value):
            self.used[value["id"]] += 1
            number = self.declared.ugly_ids_from + self.used[value["id"]] - 1
            return value["form"].format(number) if "form" in value else number
        if "the" in value:
            if value["the"] not in names:
                self._unknown("name", value["the"], names)
            return names[value["the"]]
        if "new" in value:
            made = self.make({name: each for name, each in value.items() if name != "as"}, names)
            if "as" in value:
                names[value["as"]] = made
            return made
        try:
            return cell_of(value)
        except ValueError as error:
            what, _, remedy = str(error).partition("; ")
            raise ConfigurationError(what, where=self.file.where(self.place), remedy=remedy) from None

    def _add(self, table: Any, cells: Mapping[str, Any]) -> None:
        known = [*self.ugly.sample.tables, *self.ugly.sample.others]
        if table not in known:
            self._unknown("table", str(table), known)
        columns = self.ugly.columns(table)
        for name in cells:
            if name not in columns:
                self._unknown(f"column of {table}", name, columns)
        self.ugly.add_row(table, cells)

    def _unknown(self, what: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> NoReturn:
        raise ConfigurationError(
            f"there is no {what} {name!r}", where=self.file.where(self.place), remedy=suggestion(name, known)
        )


def _is_id(value: Any) -> bool:
    return isinstance(value, dict) and "id" in value and value.keys() <= {"id", "form"}
