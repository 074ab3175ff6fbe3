"""The migration without its graph, for what needs none: building one takes seconds."""

from pathlib import Path

from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.pad.checks import CHECKS
from dtx_assets.pad.functions import FUNCTIONS
from dtx_assets.pad.sample import write_sample
from dtx_assets.pad.transforms import TRANSFORMS

HERE = Path(__file__).parent

SYSTEM = system_from_folder(
    "pad",
    HERE.parents[1] / "mappings" / "pad",
    code_dir=HERE,
    sample_dir=HERE / "sample",
    transforms=TRANSFORMS,
    functions=FUNCTIONS,
    checks=CHECKS,
    write_sample=write_sample,
)
