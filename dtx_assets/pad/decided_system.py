"""The migration without its graph, for what needs none: building one takes seconds."""

from pathlib import Path

from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.pad.functions import FUNCTIONS
from dtx_assets.pad.transforms import TRANSFORMS

HERE = Path(__file__).parent
MAPPINGS = HERE.parents[1] / "mappings" / "pad"

SYSTEM = system_from_folder(
    "pad", MAPPINGS, code_dir=HERE, sample_dir=HERE / "sample", transforms=TRANSFORMS, functions=FUNCTIONS
)
