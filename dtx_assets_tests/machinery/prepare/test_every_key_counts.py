"""In the mapping files of a small system no key can be changed without consequence."""

from dataclasses import replace
from pathlib import Path

import pytest

from dtx_assets.machinery.base.yaml_file import Findings
from dtx_assets.machinery.mapping.load import columns_without_null
from dtx_assets.machinery.mapping.validate import Known
from dtx_assets.machinery.mapping.value_map import read_value_map
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.machinery.mapping_keys import Case, keys_that_do_nothing
from dtx_assets_tests.machinery.prepare.requests import FILES, Requests, approved, request
from dtx_assets_tests.machinery.prepare.test_mapping_flow import APPROVED, COMPLIANCE, FAMILY, MANAGER

OPTIONS = [{}, {"deleted": "drop"}, {"undecided": "skip"}, {"entries": "none"}]
MORE = [
    request(10, remark="blanks behind  ", keeper_id="99", deleted="N"),
    request(11, asked=None, deleted="Y"),
    request(12, **approved("manager", at=None), **COMPLIANCE),
    request(13, **approved("manager", at="never"), **approved("compliance", at="never")),
    request(14, **approved("manager", says=None), **approved("compliance", says=None)),
    request(15, **MANAGER, deleted="?"),
    request(16, keeper_id="30", **approved("compliance", "99", at=None)),
    request(17, **approved("compliance", says="pending")),
    request(18, **approved("manager", "99")),
    {**request(19, **MANAGER), "id": None},
]


ROWS = [*({**row, "id": f"10{row['id']}"} for row in FAMILY), *APPROVED, *MORE]


def captured(requests: Requests, chosen: dict[str, str]) -> Case:
    """What the flow of requests is run with."""
    seen = []
    flow = requests.flow(**chosen)

    def look(inputs):
        seen.append(inputs)
        return flow.run(inputs)

    options = {**requests.decisions.chosen, **chosen}
    run = replace(requests.settings_of_a_run(), decisions=replace(requests.decisions, chosen=options))
    prepare_flow(replace(flow, run=look), run)
    return Case(options, seen[0])


def keys_of(requests: Requests, model: str, directory: Path) -> list[str]:
    requests.land("request", ROWS)
    value_map = read_value_map(requests.files_dir / "says.csv", Findings())
    assert value_map
    known = Known(
        {target.model: target for target in requests.targets},
        {"request": requests.legacy},
        GENERIC,
        {},
        ("keeper",),
        {"says": value_map},
        requests.decisions,
        must_be_filled=columns_without_null(requests.targets),
    )
    cases = [captured(requests, chosen) for chosen in OPTIONS]
    return keys_that_do_nothing(
        requests.files_dir / f"{model}.yaml", requests.system, "Request", known, cases, directory
    )


@pytest.mark.parametrize("model", [name.removesuffix(".yaml") for name in FILES if name[0].isupper()])
def test_no_key_of_a_mapping_file_does_nothing(tmp_path, model):
    assert keys_of(Requests(tmp_path), model, tmp_path / "changed") == []


def test_a_rule_that_fits_no_row_is_found(tmp_path):
    idle = "    drop:\n      - { rule: idle, only: { column: remark, equals: nobody writes this } }\n"
    changed = FILES["Request.yaml"].replace("    drop:\n", idle)
    found = keys_of(Requests(tmp_path, {**FILES, "Request.yaml": changed}), "Request", tmp_path / "changed")
    assert "without sources.request.drop.0" in found
    assert "altered sources.request.drop.0.only.equals" in found
    assert {key.partition(" ")[2] for key in found} <= {
        *(f"sources.request.drop.0{key}" for key in ("", ".rule", ".only", ".only.equals"))
    }
