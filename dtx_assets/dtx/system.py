"""The system `dtx`, put together: built once when its code location loads, with all its mapping files validated."""

from pathlib import Path

from dtx_assets.dtx import flows, sample_rows
from dtx_assets.dtx.checks import CHECKS
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.dtx.references import REFERENCES
from dtx_assets.dtx.transforms import TRANSFORMS
from dtx_assets.machinery.declare.folder import declared_system
from dtx_assets.machinery.postgres.connection import Connection
from dtx_assets.machinery.samples.rows import functions_of
from dtx_assets.machinery.system.system import System

PROJECT_DIR = Path(__file__).parents[2]
MAPPINGS_DIR = PROJECT_DIR / "mappings" / "dtx"
DECISIONS_FILE = MAPPINGS_DIR / "decisions.yaml"

__all__ = [
    "DECISIONS_FILE",
    "FUNCTIONS",
    "MAPPINGS_DIR",
    "PROJECT_DIR",
    "SYSTEM",
    "TRANSFORMS",
    "build_system",
    "flows",
    "load_other_areas",
]


def build_system(mappings_dir: Path = MAPPINGS_DIR) -> System:
    """The system with the mapping files of `mappings_dir`; ConfigurationError names all that is wrong with them."""
    return declared_system(
        "dtx",
        mappings_dir,
        code_dir=Path(__file__).parent,
        sample_dir=Path(__file__).parent / "sample",
        transforms=TRANSFORMS,
        functions=FUNCTIONS,
        references=REFERENCES,
        checks=CHECKS,
        sample_functions=functions_of(sample_rows),
    )


SYSTEM = build_system()


def load_other_areas(connection: Connection, directory: Path) -> dict[str, int]:
    """Inserts the target rows that other areas own, ids included; returns the rows inserted by table."""
    assert SYSTEM.seed_embedded
    return SYSTEM.seed_embedded(connection, directory)
