"""What nobody has decided yet: columns and tables that mapping files list under `undecided` keep a cutover back."""

from dtx_assets.machinery.checks.spec import CheckContext, CheckGroup, CheckOutcome, CheckSpec, DatasetName, found
from dtx_assets.machinery.mapping.load import Mappings
from dtx_assets.machinery.mapping.model import TargetMapping


def undecided_checks(mappings: Mappings) -> list[CheckGroup]:
    """A check for each target with an undecided column and each legacy table of which nobody says where its rows go."""
    return [
        *(
            _open_check(
                ("target", model),
                "columns_are_decided",
                "Each column of this target and of its legacy tables is mapped, or left out by name.",
                undecided,
            )
            for model, mapping in mappings.targets.items()
            if (undecided := undecided_columns(mapping))
        ),
        *(
            _open_check(
                ("legacy", table),
                "where_its_rows_go_is_decided",
                "The table is mapped, or listed as one that is only archived.",
                {table: note},
            )
            for table, note in mappings.undecided_tables.items()
        ),
    ]


def undecided_columns(mapping: TargetMapping) -> dict[str, str]:
    """The undecided columns of a target by name, and as `table.column` those of its legacy tables: what is known."""
    return {
        **mapping.undecided,
        **{
            f"{table}.{column}": note
            for table, source in mapping.sources.items()
            for column, note in source.undecided.items()
        },
    }


def _open_check(asset: DatasetName, name: str, description: str, undecided: dict[str, str]) -> CheckGroup:
    spec = CheckSpec(name, asset, description, "ERROR", blocking=True)

    def evaluate(_context: CheckContext) -> dict[str, CheckOutcome]:
        return {name: found(len(undecided), undecided=undecided)}

    return CheckGroup(asset, (spec,), evaluate, (), foretold=lambda _decisions: [f"{'/'.join(asset)}:{name}"])
