"""The system `dtx`, put together: built once when its code location loads, with all its mapping files validated."""

from pathlib import Path
from typing import TYPE_CHECKING

from dtx_assets.dtx import flows
from dtx_assets.dtx.functions import FUNCTIONS
from dtx_assets.dtx.references import REFERENCES
from dtx_assets.dtx.transforms import TRANSFORMS
from dtx_assets.machinery.declare.folder import declared_system
from dtx_assets.machinery.system.system import System

if TYPE_CHECKING:
    from psycopg import Connection

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
]


def load_other_areas(connection: "Connection", directory: Path) -> None:
    """Fills the tables of other areas from what lies beside a sample."""
    # The sample is written from the declarations, so it imports this module.
    from dtx_assets.dtx import sample

    sample.load_other_areas(connection, directory)


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
        seed_embedded=load_other_areas,
    )


SYSTEM = build_system()
