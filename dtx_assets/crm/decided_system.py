"""The migration without its graph, for what needs none: building one takes seconds."""

from pathlib import Path

from dtx_assets.crm.checks import CHECKS
from dtx_assets.crm.references import REFERENCES
from dtx_assets.crm.sample import write_sample
from dtx_assets.crm.transforms import TRANSFORMS
from dtx_assets.machinery.declare.folder import system_from_folder

HERE = Path(__file__).parent
MAPPINGS = HERE.parents[1] / "mappings" / "crm"

SYSTEM = system_from_folder(
    "crm",
    MAPPINGS,
    code_dir=HERE,
    sample_dir=HERE / "sample",
    transforms=TRANSFORMS,
    references=REFERENCES,
    checks=CHECKS,
    write_sample=write_sample,
)
