"""Which target columns are masked where people look, of all systems, as `data/masked_columns.json` says.

`UPDATE_SNAPSHOTS=1 pytest dtx_assets_tests/test_masked_columns.py` writes it anew. What lineage shows may change
freely, and must not change this.
"""

import json
import os
from pathlib import Path

import pytest

from dtx_assets.crm.decided_system import SYSTEM as CRM
from dtx_assets.dispatch.decided_system import SYSTEM as DISPATCH
from dtx_assets.dtx.system import SYSTEM as DTX
from dtx_assets.machinery.system.system import System
from dtx_assets.pad.decided_system import SYSTEM as PAD

SYSTEMS = (DTX, PAD, CRM, DISPATCH)
REVIEWED = Path(__file__).parent / "data" / "masked_columns.json"


def masked(system: System) -> dict[str, list[str]]:
    columns = {target.model: sorted(system.personal_columns(target)) for target in system.targets}
    return {model: names for model, names in columns.items() if names}


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_the_masked_columns_are_those_that_were_reviewed(system):
    reviewed = json.loads(REVIEWED.read_text())
    if os.environ.get("UPDATE_SNAPSHOTS"):
        reviewed[system.name] = masked(system)
        REVIEWED.write_text(json.dumps(reviewed, indent=1) + "\n")
    assert masked(system) == reviewed[system.name]
    assert len(reviewed[system.name]) > 2
