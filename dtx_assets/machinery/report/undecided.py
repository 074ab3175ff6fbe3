"""What nobody has decided yet, column by column: the same that closes the gate."""

from dataclasses import dataclass

from dtx_assets.machinery.checks.undecided import undecided_columns
from dtx_assets.machinery.system.system import System


@dataclass(frozen=True)
class UndecidedRow:
    """A column of a target or, as `table.column`, of a legacy table; or a whole legacy table, of no model."""

    model: str
    name: str
    known: str


def undecided_rows(system: System) -> tuple[UndecidedRow, ...]:
    mappings = system.mappings
    return (
        *(
            UndecidedRow(model, name, known)
            for model, mapping in sorted(mappings.targets.items())
            for name, known in undecided_columns(mapping).items()
        ),
        *(UndecidedRow("", table, known) for table, known in mappings.undecided_tables.items()),
    )
