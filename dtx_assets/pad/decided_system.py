"""The migration without its graph, for what needs none: building one takes seconds."""

from dataclasses import replace
from pathlib import Path

from psycopg import Connection

from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.machinery.postgres.seeding import seed_tables
from dtx_assets.pad.checks import CHECKS
from dtx_assets.pad.functions import FUNCTIONS
from dtx_assets.pad.sample import write_sample
from dtx_assets.pad.transforms import TRANSFORMS

HERE = Path(__file__).parent
MAPPINGS = HERE.parents[1] / "mappings" / "pad"


def seed_reference_rows(connection: Connection, directory: Path) -> dict[str, int]:
    """The rows of the reference tables from beside a sample."""
    return seed_tables(connection, DECLARED.tables_of_others, directory)


DECLARED = system_from_folder(
    "pad",
    MAPPINGS,
    code_dir=HERE,
    sample_dir=HERE / "sample",
    transforms=TRANSFORMS,
    functions=FUNCTIONS,
    checks=CHECKS,
)
SYSTEM = replace(DECLARED, seed_embedded=seed_reference_rows, write_sample=write_sample)
