"""What a landed collection tells of its fields, with documents that break each check."""

from types import SimpleNamespace
from typing import Any

import pytest

from dtx_assets.machinery.base.lake import Manifest
from dtx_assets.machinery.checks.documents import document_checks
from dtx_assets.machinery.checks.spec import CheckOutcome
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets_tests.machinery.sources.landing_place import LandingPlace

TABLE = LegacyTable("t", "area", ("_id", "a", "never"), key=("_id",), documents=True)


def outcomes(manifest: Manifest, mode: str = "rehearsal") -> dict[str, CheckOutcome]:
    context: Any = SimpleNamespace(manifest=lambda *_: manifest, settings=SimpleNamespace(mode=mode))
    return document_checks(TABLE).evaluate(context)


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    (tmp_path / "dump").mkdir()
    lines = ['{"_id":1,"a":1,"b":"x"}', '{"_id":2,"a":"1","b":2}', '{"_id":3,"b":2,"c":[]}', '{"_id":4,"a":1,"a":2}']
    (tmp_path / "dump" / "t.ndjson").write_text("\n".join(lines))
    return LandingPlace(tmp_path).land(str(tmp_path / "dump"), TABLE)


def test_fields_are_told_with_their_types(manifest):
    found = outcomes(manifest)
    undeclared, types = found["undeclared_fields"], found["field_types"]
    assert (undeclared.passed, undeclared.count) == (False, 2)
    assert undeclared.metadata["fields"] == {"b": {"string": 1, "int": 2}, "c": {"array": 1}}
    assert (types.passed, types.metadata["fields that occur in no document"]) == (False, ["never"])
    assert types.metadata["types"] == {
        "_id": {"int": 3},
        "a": {"int": 1, "string": 1, "missing": 1},
        "never": {"missing": 3},
    }
    assert found["snapshot"].passed


def test_fields_beyond_those_that_are_named_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("dtx_assets.machinery.sources.documents.NAMED", 1)
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / "t.ndjson").write_text('{"_id":1,"x":1,"y":1,"z":1}\n{"_id":2,"x":null}')
    undeclared = outcomes(LandingPlace(tmp_path).land(str(tmp_path / "dump"), TABLE))["undeclared_fields"]
    assert undeclared.metadata == {"fields": {"x": {"int": 1, "null": 1}}, "values of further fields": 2}


def test_a_copy_of_several_moments_is_an_error_in_a_cutover(manifest):
    manifest.metadata.update(consistent_snapshot=False, count_before=3, count_after=5)
    for mode, severity in (("rehearsal", "WARN"), ("cutover", "ERROR")):
        outcome = outcomes(manifest, mode)["snapshot"]
        assert (outcome.passed, outcome.severity) == (False, severity)
        assert outcome.metadata == {"documents before": 3, "documents after": 5}
