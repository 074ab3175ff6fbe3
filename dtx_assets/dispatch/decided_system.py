"""The migration without its graph, for what needs none: building one takes seconds."""

from dataclasses import replace
from pathlib import Path

from dtx_assets.dispatch.checks import CHECKS
from dtx_assets.dispatch.functions import FUNCTIONS
from dtx_assets.dispatch.references import REFERENCES
from dtx_assets.dispatch.transforms import TRANSFORMS
from dtx_assets.machinery.declare.folder import system_from_folder
from dtx_assets.machinery.derived.model import load_derived
from dtx_assets.machinery.mapping.load import DERIVED

HERE = Path(__file__).parent
MAPPINGS = HERE.parents[1] / "mappings" / "dispatch"

SYSTEM = replace(
    system_from_folder(
        "dispatch",
        MAPPINGS,
        code_dir=HERE,
        sample_dir=HERE / "sample",
        transforms=TRANSFORMS,
        functions=FUNCTIONS,
        references=REFERENCES,
        checks=CHECKS,
    ),
    derived=load_derived(MAPPINGS / DERIVED),
)
