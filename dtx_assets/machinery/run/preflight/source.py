"""The sources: whether each table and crosswalk can be read, and what of it is not."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack

from dtx_assets.machinery.base.errors import MigrationError
from dtx_assets.machinery.base.settings import mask_url
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.run.environment import RunEnvironment
from dtx_assets.machinery.run.preflight.finding import Finding, refusal, shortened
from dtx_assets.machinery.sources import Source, open_source
from dtx_assets.machinery.sources.csv_files import CsvDirectory, CsvPrefix
from dtx_assets.machinery.sources.documents import is_absent
from dtx_assets.machinery.sources.landing import TableMissing
from dtx_assets.machinery.sources.remarks import Remarking
from dtx_assets.machinery.sources.undeclared import refuse_when_none_is_there


class Sources:
    """Legacy tables and crosswalks where they are now; they stay open as long as `stack`.

    Not `closely`, it is only asked whether they answer and hold anything of what is declared.
    """

    def __init__(self, environment: RunEnvironment, stack: ExitStack, *, closely: bool = True) -> None:
        self.environment = environment
        self.findings: list[Finding] = []
        self.readable: dict[str, Source] = {}
        self.stored_bytes = 0
        system, settings = environment.system, environment.settings
        opened: dict[str, Source | None] = {}
        for part, url, declared in (
            ("source", settings.legacy_url, system.legacy_tables),
            ("crosswalks", settings.crosswalk_url, system.crosswalk_tables),
        ):
            if url not in opened:
                opened[url] = self._open(part, url, stack)
            source = opened[url]
            if source is None:
                continue
            if opened[url] and part == "crosswalks" and url == settings.legacy_url:
                self.findings.append(Finding(part, "connection", "yes", f"the same as the source, {mask_url(url)}"))
            if closely:
                self._look_at(part, url, source, declared)
            else:
                with refusal(self.findings, part, "collections"):
                    refuse_when_none_is_there(declared.values(), source.tables(), mask_url(url))

    def _open(self, part: str, url: str, stack: ExitStack) -> Source | None:
        source = None
        with refusal(self.findings, part, "connection"):
            dialects = self.environment.dialects_of(url)
            source = stack.enter_context(open_source(url, s3_resource=self.environment.s3, dialects=dialects))
            count = len(source.tables())
            self.findings.append(Finding(part, "connection", "yes", f"{mask_url(url)}, {count} tables"))
            if isinstance(source, CsvDirectory | CsvPrefix):
                self.findings.append(Finding(part, "dialect", "yes", str(dialects)))
        return source

    def _look_at(self, part: str, url: str, source: Source, declared: Mapping[str, LegacyTable]) -> None:
        own = self.environment.system.sources
        expected = [
            table
            for name, table in declared.items()
            if name not in own and not (table.is_optional and not is_there(source, table))
        ]
        readable: list[LegacyTable] = []
        wrong: list[Finding] = []
        required = self._required_by_flows()
        with refusal(self.findings, part, "collections"):
            refuse_when_none_is_there(declared.values(), source.tables(), mask_url(url))
        for table in expected:
            with refusal(wrong, part, f"table {table.shown}"):
                columns = source.columns(table)
                readable.append(table)
                if is_absent(table, source.tables()):
                    says = "the collection is not there, and counts as empty"
                    wrong.append(Finding(part, f"table {table.shown}", "warn", says, "check its name"))
                self.readable[table.name] = source
                wrong += missing_columns(part, table, (*table.required, *required.get(table.name, ())), columns)
        if readable:
            says = f"{len(readable)} of {len(expected)} tables can be read"
            self.findings.append(Finding(part, "tables", "yes" if len(readable) == len(expected) else "no", says))
        self.findings += wrong
        if isinstance(source, Remarking):
            with refusal(self.findings, part, "what is not read"):
                for remark in source.remarks(readable, self.environment.settings.legacy_timezone):
                    self.findings.append(Finding(part, remark.subject, "warn", remark.says, remark.remedy))
        with refusal(self.findings, part, "size"):
            self.stored_bytes += source.stored_bytes(readable)

    def _required_by_flows(self) -> dict[str, tuple[str, ...]]:
        required: dict[str, tuple[str, ...]] = {}
        for flow in self.environment.system.flows:
            for table, columns in flow.required(self.environment.decisions.chosen).items():
                required[table] = (*required.get(table, ()), *columns)
        return required


def is_there(source: Source, table: LegacyTable) -> bool:
    try:
        source.columns(table)
    except TableMissing:
        return False
    except MigrationError:
        return True
    return True


def missing_columns(
    part: str, table: LegacyTable, required: Sequence[str], present: Collection[str]
) -> Iterator[Finding]:
    """Columns a flow cannot do without, and those that would count as NULL throughout."""
    subject = f"table {table.shown}"
    remedy = "export the table whole, with these columns"
    if needed := [name for name in dict.fromkeys(required) if name not in present]:
        yield Finding(part, subject, "no", f"required columns are missing: {', '.join(needed)}", remedy)
    if others := [name for name in table.columns if name not in present and name not in required]:
        says = f"columns are missing, and count as NULL: {shortened(others)}"
        yield Finding(part, subject, "warn", says, remedy)
