"""What a case of the table is, and how the table is rendered for `docs/bad-inputs.md`. What is planted is beside it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from textwrap import fill
from typing import TYPE_CHECKING

from dtx_assets.machinery.base.exit_codes import EXIT_CODES

if TYPE_CHECKING:
    from dtx_assets_tests.bad_inputs.place import Held, Place, Shown

Plant = Callable[["Place"], object]

CUT_SHORT = {
    "legacy": "the export",
    "mappings": "mappings/dtx",
    "home": ".dtx",
    "directory": "the directory",
    "url": "the URL, its password masked",
    "port": "the port",
    "lake": "the lake",
}
"""The names that `where` may use, and what the document says for them."""


@dataclass(frozen=True)
class Case:
    """One bad input. Texts may hold the names of CUT_SHORT in braces: `{legacy}/keyword.csv, line 2`."""

    name: str
    command: tuple[str, ...]
    plant: Plant
    code: int

    def check(self, place: "Place", shown: "Shown") -> None:
        raise NotImplementedError

    def seen(self) -> str:
        """What the document says that the user sees."""
        raise NotImplementedError


@dataclass(frozen=True)
class Refused(Case):
    """Nothing is done, and the message says what is wrong, where, and what to do. All that was there stays."""

    what: str
    where: str
    remedy: str
    lands: bool = False
    """Whether the tables are landed, since each is whole, before what depends on them is refused."""
    prepares: bool = False
    """Whether rows are prepared, before the load is refused."""

    def at(self, file: str) -> "Refused":
        """The same, told of another mapping file, in the line that was given."""
        return replace(self, where=f"{{mappings}}/{file}:{self.where.rpartition(':')[2]}")

    def refuse_losses(self, before: "Held", after: "Held") -> None:
        """All that was there is there still, and nothing half beside it."""
        made = {"legacy", "crosswalk"} if self.lands else set()
        made |= {"prepared", "rejected"} if self.prepares else set()
        assert before.without(made) == after.without(made)

    def check(self, place: "Place", shown: "Shown") -> None:
        for part in (self.what, self.where, self.remedy):
            assert part, "a refusal says what, where and what to do"
            assert place.named(part) in shown.text, shown.text
        if "Usage:" not in shown.text:
            assert f"  at: {place.named(self.where)}" in shown.text, shown.text
            assert "  do: " in shown.text, shown.text

    def seen(self) -> str:
        return f"{_cut(self.what)} — *at* {_cut(self.where)} — *do* {_cut(self.remedy)}"


@dataclass(frozen=True)
class Found(Case):
    """Rows are migrated, rejected or dropped as the plan says, and a check that fails or warns says how many."""

    check_name: str
    asset: str
    count: int
    result: Callable[["Place"], object]
    """Asserts what became of the rows."""
    means: str
    severity: str = "ERROR"

    def check(self, place: "Place", shown: "Shown") -> None:
        cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.text.splitlines()]
        assert [self.check_name, self.asset, f"{self.count:,}", self.severity] in cells, shown.text
        self.result(place)

    def seen(self) -> str:
        state = "fails" if self.severity == "ERROR" else "warns"
        return f"check `{self.check_name}` of {self.asset} {state}: {self.means}"


@dataclass(frozen=True)
class Taken(Case):
    """Nothing is wrong with it: it is read exactly."""

    result: Callable[["Place"], object]
    means: str

    def check(self, place: "Place", shown: "Shown") -> None:
        assert "FAILED" not in shown.text, shown.text
        self.result(place)

    def seen(self) -> str:
        return f"nothing: {self.means}"


def _cut(text: str) -> str:
    return text.format(**CUT_SHORT).replace("|", "\\|").replace("<", "\\<").replace("\n", " ").strip()


HEAD = f"""\
# Bad inputs, and what the user sees

Each row is a test (`dtx_assets_tests/bad_inputs/`), which plants the fault, runs the command in full and reads what it
prints; this page is rendered from the same table. In every case no Python traceback is shown, no password either, and
nothing that was there before is lost: neither rows of the target nor what the lake held.

{fill("Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".", 120)}
"""


def rendered(groups: Iterable[tuple[str, Iterable[Case]]]) -> str:
    """The table as Markdown, a section a group."""
    return "\n".join(_lines(groups)) + "\n"


def _lines(groups: Iterable[tuple[str, Iterable[Case]]]) -> Iterator[str]:
    yield HEAD.rstrip("\n")
    for title, cases in groups:
        yield f"\n## {title}\n"
        yield "| case | what the user sees | exit code |\n|---|---|---|"
        for case in cases:
            yield f"| {case.name} | {case.seen()} | {case.code} |"
