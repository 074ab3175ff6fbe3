"""A few rows and rejected documents of CRM, prepared by hand and loaded into NextCRM's schema: a run takes longer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import psycopg

from dtx_assets.crm.decided_system import SYSTEM
from dtx_assets.crm.transforms import NAMESPACE
from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.load import load_target, open_run
from dtx_assets_tests.machinery.load.prepared import Batch, Link, Refusal, write_prepared

CHILD, PARENT, LOSER = "64e1a0b2c3d4e5f607182941", "64e1a0b2c3d4e5f607182940", "64e1a0b2c3d4e5f607182951"
SECRETS = ("Anna Smith", "anna@example.com", "$2b$10$N9qo8uLOickgx2ZMRZoMye", "sk-0123456789", "a private title")


def oid(digits: str) -> dict[str, str]:
    return {"$oid": digits}


REJECTED = {
    "Sections": [
        Refusal(
            "Sections",
            CHILD,
            ["orphan_reference"],
            detail=f"board: names {PARENT} of Boards, which is rejected",
            row={"_id": oid(CHILD), "__v": {"$numberInt": "0"}, "board": oid(PARENT), "title": SECRETS[4]},
        )
    ],
    "Users": [
        Refusal(
            "Users",
            LOSER,
            ["duplicate_key"],
            detail="email: another user has the same e-mail, and logged in or was made later; that one counts",
            row={"_id": oid(LOSER), "email": SECRETS[1], "name": SECRETS[0], "password": SECRETS[2], "hobby": "chess"},
        )
    ],
    "openAi_keys": [
        Refusal(
            "openAi_keys",
            CHILD,
            ["schema_violation", "unparseable"],
            detail="user: is null, and the column takes no NULL; api_key:"
            f' {{"key":"{SECRETS[3]}"}} is no text, but object',
            row={"_id": oid(CHILD), "user": None, "api_key": {"key": SECRETS[3]}},
        )
    ],
    "crm_campaigns": [
        Refusal(
            "crm_campaigns", "#7", ["unparseable"], detail="document: cannot be decoded", row={"_bson": "QW5uYQ=="}
        ),
        Refusal(
            "crm_campaigns",
            '"campaign-1"',
            ["unparseable"],
            detail='_id: "campaign-1" is no id',
            row={"_id": "campaign-1", "status": "a\nb"},
            number=2,
        ),
    ],
}
INDUSTRIES = ("Banking", "Farming")


@dataclass(frozen=True)
class SmallLoad:
    directory: Path
    url: str

    def load(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute((SYSTEM.mappings_dir / "target.sql").read_bytes())
        lake = Lake(str(self.directory / "lake"))
        run = open_run(self.url, "crm", "first", mode="rehearsal", decisions={})
        for model, refusals in {"crm_Industry_Type": [], **REJECTED}.items():
            target = SYSTEM.target(model)
            batch = Batch(*(_industries() if model == "crm_Industry_Type" else ([], [])), refusals)
            sources = list(SYSTEM.mappings.for_target(model).sources)
            write_prepared(lake, target, [batch], sources=sources, system="crm")
            load_target("crm", target, lake, self.url, run)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()


def _industries() -> tuple[list[dict[str, Any]], list[Link]]:
    keys = [f"{number:024x}" for number in range(len(INDUSTRIES))]
    rows = [
        {"id": str(uuid5(UUID(NAMESPACE), key)), "__v": 0, "name": name}
        for key, name in zip(keys, INDUSTRIES, strict=True)
    ]
    return rows, [Link("crm_Industry_Type", key, {"": place}, number=place + 1) for place, key in enumerate(keys)]
