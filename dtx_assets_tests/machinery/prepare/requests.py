"""A made-up system of mapping files: a request becomes a row, its approvals, and what the log says of both.

All of it is data. What should come out of which rows is the tests' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dtx_assets.machinery.mapping.decisions import load_decisions
from dtx_assets.machinery.mapping.functions import Functions
from dtx_assets.machinery.mapping.load import Mappings, load_mappings
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.model.target import TargetColumn, TargetTable
from dtx_assets.machinery.postgres.ddl import LiveTarget
from dtx_assets.machinery.prepare.derived import derived_flow
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets.machinery.system.flow import Flow
from dtx_assets.machinery.transforms.columns import GENERIC
from dtx_assets_tests.machinery.zoo import Content, Zoo

COLUMNS = (
    *("id", "keeper_id", "asked", "deleted", "remark"),
    *("manager", "manager_says", "manager_at", "compliance", "compliance_says", "compliance_at"),
)
REQUEST = LegacyTable(
    "request", "zoo", COLUMNS, key=("id",), kind_of=lambda name: "integer" if name.endswith("id") else "text"
)
NUMBER = TargetColumn("number", "bigint", "The old number.")
REQUESTS = TargetTable(
    "zoo_request",
    "Request",
    "zoo",
    (
        NUMBER,
        TargetColumn("keeper_id", "bigint", "Who asks."),
        TargetColumn("asked_at", "timestamptz", "When."),
        TargetColumn("remark", "text", "What for.", nullable=True, max_length=20),
    ),
    writes="insert",
    natural_key=("number",),
)
APPROVALS = TargetTable(
    "zoo_approval",
    "Approval",
    "zoo",
    (
        NUMBER,
        TargetColumn("kind", "text", "Whose."),
        TargetColumn("approver_id", "bigint", "Who."),
        TargetColumn("decision", "text", "Which.", max_length=8),
        TargetColumn("decided_at", "timestamptz", "When."),
    ),
    writes="insert",
    natural_key=("number", "kind"),
)
ENTRIES = TargetTable(
    "zoo_entry",
    "Entry",
    "zoo",
    (NUMBER, TargetColumn("action", "text", "What."), TargetColumn("happened_at", "timestamptz", "When.")),
    writes="insert",
)

FILES = {
    "decisions.yaml": """
decisions:
  - { key: deleted, area: 1, number: "1", title: deleted, text: either, status: open, confirm_by: someone,
      options: [keep, drop], chosen: keep }
  - { key: undecided, area: 1, number: "2", title: undecided, text: either, status: open, confirm_by: someone,
      options: [reject, skip], chosen: reject }
  - { key: entries, area: 1, number: "3", title: entries, text: either, status: open, confirm_by: someone,
      options: [all, none], chosen: all }
""",
    "archived.yaml": "archived: {}\n",
    "says.csv": "says,decision\napproved,approved\ndeclined,declined\n",
    "Request.yaml": """
target: Request
decision: "A1 #1"
description: Each request.
sources:
  request:
    drop:
      - { rule: deleted, only: { column: deleted, equals: Y }, when: { decision: deleted, option: drop } }
    require: asked
    reject:
      - { only: { column: deleted, other_than: [Y, N, null] }, reason: unmapped_value, column: deleted,
          detail: it is neither Y nor N }
    columns:
      number: { from: id, transform: integer }
      keeper_id: { from: keeper_id, crosswalk: keeper }
      asked_at: { from: asked, transform: timestamp }
      remark: { from: remark, transform: trimmed_end }
""",
    "Approval.yaml": """
target: Approval
decision: "A1 #2"
parent: Request
sources:
  request:
    no_rows: no_approval
    columns:
      number: { from: id, transform: integer }
    rows:
      - part: manager
        only: { column: manager, is: given }
        drop:
          - rule: undecided
            only: { column: manager_says, equals: [pending, null] }
            when: { decision: undecided, option: skip }
        require: manager_at
        columns:
          kind: { constant: manager }
          approver_id: { from: manager, crosswalk: keeper }
          decision: { from: manager_says, value_map: says, output: decision }
          decided_at: { from: manager_at, transform: timestamp }
      - part: compliance
        only: { column: compliance, is: given }
        drop:
          - rule: undecided
            only: { column: compliance_says, equals: [pending, null] }
            when: { decision: undecided, option: skip }
        require: compliance_at
        columns:
          kind: { constant: compliance }
          approver_id: { from: compliance, crosswalk: keeper }
          decision: { from: compliance_says, value_map: says, output: decision }
          decided_at: { from: compliance_at, transform: timestamp }
""",
    "Entry.yaml": """
target: Entry
decision: "A1 #3"
parent: Request
sources:
  request:
    drop:
      - { rule: no_entries, only: { column: id, is: given }, when: { decision: entries, option: none } }
    columns:
      number: { from: id, transform: integer }
    rows:
      - part: submitted
        columns:
          action: { constant: submitted }
          happened_at: { from: asked, transform: timestamp }
      - part: manager
        only: { column: manager, is: given }
        reject:
          - { only: { value: approver, is: missing }, reason: no_matching_row, column: manager, detail: unknown }
        columns:
          action: { constant: approved }
          happened_at: { from: manager_at, transform: timestamp, with: { invalid: "null" } }
        helpers:
          approver: { from: manager, crosswalk: keeper, missing: "null" }
""",
}


class Requests(Zoo):
    """A lake in which the mapping files of requests run."""

    model = "Request"
    legacy = REQUEST
    targets: tuple[TargetTable, ...] = (REQUESTS, APPROVALS, ENTRIES)
    functions = Functions()

    def __init__(self, directory: Path, files: Mapping[str, str] = FILES) -> None:
        super().__init__(directory)
        self.files_dir = directory / "files"
        self.files_dir.mkdir()
        for name, content in files.items():
            (self.files_dir / name).write_text(content)
        self.mappings = self.read()
        self.system = replace(
            self.system,
            legacy_tables={self.legacy.name: self.legacy},
            targets=self.targets,
            mappings=self.mappings,
            mappings_dir=self.files_dir,
            flow_makers=(derived_flow(self.mappings, {self.legacy.name: self.legacy}, self.model),),
        )
        with self.lake.write(("zoo", "mapping", "says"), run_id="m") as writer:
            writer.add(pl.DataFrame({"says": ["approved"], "decision": ["approved"]}))

    def read(self) -> Mappings:
        self.decisions = load_decisions(self.files_dir / "decisions.yaml")
        return load_mappings(
            self.files_dir,
            legacy_tables={self.legacy.name: self.legacy},
            targets=self.targets,
            transforms=GENERIC,
            functions=self.functions,
            crosswalks=("keeper",),
            decisions=self.decisions,
        )

    def flow(self, **chosen: str) -> Flow:
        (flow,) = self.system.flows_under({**self.decisions.chosen, **chosen})
        return flow

    def run(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        batch_rows: int = 1_000,
        live: Mapping[str, LiveTarget] | None = None,
        **chosen: str,
    ) -> dict[str, Content]:
        """What was prepared of some requests, by model."""
        self.land(self.legacy.name, rows)
        run = self.settings_of_a_run(batch_rows=batch_rows)
        decisions = replace(self.decisions, chosen={**self.decisions.chosen, **chosen})
        run = replace(run, decisions=decisions, live=live or {})
        made = prepare_flow(self.flow(**chosen), run)
        return {model: self.content(manifest) for model, manifest in made.items()}


def request(number: int, **values: str | None) -> dict[str, str | None]:
    """A request of keeper 1 that nobody has approved."""
    return {"id": str(number), "keeper_id": "1", "asked": "2020-01-01 00:00:00", **values}


def approved(whose: str, who: str | None = "2", says: str | None = "approved", at: str | None = "2020-01-02 00:00:00"):
    return {whose: who, f"{whose}_says": says, f"{whose}_at": at}
