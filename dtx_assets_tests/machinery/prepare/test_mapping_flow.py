"""Flows that are nothing but mapping files: several rows of one, what is wrong with one of them, parents."""

from dataclasses import replace

import polars as pl
import pytest

from dtx_assets.machinery.base.errors import ConfigurationError, StructureError
from dtx_assets.machinery.mapping.functions import Functions
from dtx_assets.machinery.postgres.ddl import LiveColumn, LiveTarget
from dtx_assets_tests.machinery.prepare.requests import FILES, Requests, approved, request
from dtx_assets_tests.machinery.zoo import Content, balances, reasons


@pytest.fixture
def requests(tmp_path) -> Requests:
    return Requests(tmp_path)


def kinds(content: Content) -> list[tuple[int, str]]:
    return sorted((row["number"], row["kind"]) for row in content.rows)


def rejected(content: Content, *, partial: bool) -> dict[int, list[str]]:
    return {row["source_row"]: row["reasons"] for row in content.rejected if row["partial"] == partial}


def fates(content: Content) -> dict[str, object]:
    entry = content.accounting["request"]
    assert balances(entry)
    return {key: entry[key] for key in ("read", "migrated", "rejected", "dropped")}


MANAGER, COMPLIANCE = approved("manager"), approved("compliance", "3")
APPROVED = [
    request(1),
    request(2, **MANAGER),
    request(3, **MANAGER, **COMPLIANCE),
    request(4, **approved("manager", "99"), **COMPLIANCE),
    request(5, **approved("manager", "99"), **approved("compliance", says="maybe", at=None)),
    request(6, **approved("manager", says="pending", at="never"), **COMPLIANCE),
    request(7, **approved("manager", says=None), **approved("compliance", says="Pending ")),
]


@pytest.mark.parametrize("batch_rows", [1_000, 1])
def test_a_row_gives_none_one_or_two_and_what_is_wrong_with_a_part_concerns_it_alone(requests, batch_rows):
    content = requests.run(APPROVED, batch_rows=batch_rows)["Approval"]
    assert kinds(content) == [(2, "manager"), (3, "compliance"), (3, "manager"), (4, "compliance"), (6, "compliance")]
    assert rejected(content, partial=True) == {4: ["orphan_reference"], 6: ["unmapped_value", "unparseable"]}
    # Where no part is left, the reasons of all of them are the row's.
    assert rejected(content, partial=False) == {
        5: ["orphan_reference", "schema_violation", "unmapped_value"],
        7: ["unmapped_value"],
    }
    assert fates(content) == {"read": 7, "migrated": 4, "rejected": 2, "dropped": {"no_approval": 1}}
    details = {row["source_row"]: row["detail"] for row in content.rejected}
    assert details[4] == "manager: manager: 99 has no match in the crosswalk keeper"
    assert "compliance: compliance_at: has no value" in details[5]


def test_a_part_that_a_rule_drops_is_not_there_whatever_else_is_wrong_with_it(requests):
    content = requests.run(APPROVED, undecided="skip")["Approval"]
    assert rejected(content, partial=True) == {4: ["orphan_reference"]}
    assert rejected(content, partial=False) == {5: ["orphan_reference", "schema_violation", "unmapped_value"]}
    assert fates(content)["dropped"] == {"no_approval": 1, "undecided": 1}


def test_links_name_the_parts(requests):
    requests.run(APPROVED)
    links = requests.lake.scan(("zoo", "prepared", "Approval"), "links").collect()
    assert {row["source_row"]: row["parts"] for row in links.iter_rows(named=True)} == {
        2: ["manager"],
        3: ["manager", "compliance"],
        4: ["compliance"],
        6: ["compliance"],
    }


FAMILY = [
    request(1, **MANAGER, asked="never"),
    request(2, asked="never"),
    request(3, **MANAGER, deleted="Y"),
    request(4, **approved("manager", "99"), remark="far too long to be a remark"),
    request(5, **MANAGER),
    request(5, **COMPLIANCE),
    request(6, **MANAGER, deleted="?"),
    request(6, **MANAGER, deleted="?"),
]


@pytest.mark.parametrize("batch_rows", [1_000, 1])
def test_children_of_a_rejected_row_are_rejected_with_that_alone_and_those_of_a_dropped_one_dropped(
    requests, batch_rows
):
    made = requests.run(FAMILY, batch_rows=batch_rows, deleted="drop")
    assert rejected(made["Request"], partial=False) == {
        1: ["unparseable"],
        2: ["unparseable"],
        4: ["schema_violation"],
        5: ["duplicate_key"],
        7: ["unmapped_value"],
    }
    approvals, entries = made["Approval"], made["Entry"]
    # That there is no approval goes before the parent's fate.
    assert rejected(approvals, partial=False) == {row: ["parent_rejected"] for row in (1, 4, 5, 7)}
    assert rejected(approvals, partial=True) == {}
    assert fates(approvals)["dropped"] == {"deleted": 1, "identical": 1, "no_approval": 1}
    assert kinds(approvals) == [(5, "compliance")]
    assert rejected(entries, partial=False) == {row: ["parent_rejected"] for row in (1, 2, 4, 5, 7)}
    assert fates(entries)["dropped"] == {"deleted": 1, "identical": 1}
    assert [row["action"] for row in entries.rows] == ["submitted"]
    assert {fates(content)["read"] for content in made.values()} == {len(FAMILY)}


def test_a_rejected_child_leaves_its_parent_in(requests):
    made = requests.run([request(1, **approved("manager", "99"))])
    assert [row["number"] for row in made["Request"].rows] == [1]
    assert rejected(made["Approval"], partial=False) == {1: ["orphan_reference"]}
    # Of the log, the part that tells of the approval is missing, and listed.
    assert [row["action"] for row in made["Entry"].rows] == ["submitted"]
    assert rejected(made["Entry"], partial=True) == {1: ["no_matching_row"]}


def live(table, **columns: LiveColumn) -> LiveTarget:
    return LiveTarget(1, "r", columns, frozenset(), None)


def test_what_the_live_target_does_not_take_of_a_part_concerns_it_alone_and_of_a_parent_its_children(requests):
    narrow = LiveColumn("character varying", True, 7, False)
    rows = [
        request(1, **approved("manager", says="declined"), **COMPLIANCE),
        request(2, **MANAGER, remark="much too long"),
    ]
    limits = {"Approval": live("zoo_approval", kind=narrow), "Request": live("zoo_request", remark=narrow)}
    made = requests.run(rows, live=limits)
    assert rejected(made["Request"], partial=False) == {2: ["schema_violation"]}
    assert kinds(made["Approval"]) == [(1, "manager")]
    assert rejected(made["Approval"], partial=True) == {1: ["schema_violation"]}
    assert rejected(made["Approval"], partial=False) == {2: ["parent_rejected"]}


def test_a_decision_drops_all_that_one_model_would_give(requests):
    made = requests.run([request(1), request(2, asked="never")], entries="none")
    assert fates(made["Entry"])["dropped"] == {"no_entries": 2}
    assert fates(made["Request"])["migrated"] == 1


def test_what_is_rejected_for_itself_is_nobodys_duplicate(requests):
    # Plain requests have an id that is a text, so that two of them give one number.
    requests.legacy = replace(requests.legacy, key=(), kind_of=lambda _name: "text")
    requests.system = replace(requests.system, legacy_tables={"request": requests.legacy})
    rows = [request(1), request(1, remark="good"), request(1, remark="much longer than it may be")]
    made = requests.run(rows)["Request"]
    assert reasons(made, "request") == {1: ["duplicate_key"], 3: ["schema_violation"]}
    assert [row["remark"] for row in made.rows] == ["good"]


def test_the_flow_is_what_the_files_say(requests):
    flow = requests.flow()
    assert flow.name == "request"
    assert flow.targets == ("Request", "Approval", "Entry")
    assert flow.accounted == tuple(("request", model) for model in flow.targets)
    assert flow.mappings == ("keeper", "says")
    assert set(flow.decisions) == {"deleted", "undecided", "entries"}
    assert flow.owner == {"request": ("keeper_id", "keeper")}
    assert flow.reads
    assert "remark" in flow.reads({})["request"]


PLAIN = {
    **{name: FILES[name] for name in ("decisions.yaml", "archived.yaml", "says.csv")},
    "Request.yaml": """
target: Request
decision: "A1 #1"
sources:
  request:
    expand: twice
    no_rows: nothing
    columns:
      number: { from: id, transform: integer }
      keeper_id: { from: keeper_id, transform: integer }
      asked_at: { from: asked, transform: timestamp }
      remark: { from: remark, by: expand }
    dropped:
"""
    + "".join(
        f"      {whose}{suffix}: not asked for\n"
        for whose in ("manager", "compliance")
        for suffix in ("", "_says", "_at")
    )
    + "      deleted: not asked for\n",
}


class Plain(Requests):
    """Requests of nobody, with one function."""

    functions = Functions()
    targets = tuple(target for target in Requests.targets if target.model == "Request")


@Plain.functions.register
def twice(rows: pl.DataFrame, inputs) -> pl.DataFrame:
    """Nothing for a remark of `none`, what is not declared for `peek`; it cannot have NULL, nor `gone`."""
    if rows["remark"].eq("peek").any():
        inputs.decision("deleted")
    if rows["remark"].eq("gone").any():
        raise FileNotFoundError("gone")
    assert all(remark.islower() for remark in rows["remark"])
    return rows.filter(pl.col("remark").ne_missing("none")).with_columns(pl.col("remark").alias(":remark"))


def test_rows_of_nobody_lie_in_batches_by_their_key(tmp_path):
    plain = Plain(tmp_path, PLAIN)
    assert plain.flow().owner == {}
    rows = [request(number, remark="x") for number in range(1, 40)]
    whole = plain.run(rows)["Request"]
    spread = plain.run(rows, batch_rows=3)["Request"]
    assert whole.rows == spread.rows
    assert len(whole.rows) == 39
    buckets = {key: bucket for _, key, _, bucket, _ in spread.links}
    assert len(set(buckets.values())) > 20
    without_one = plain.run(rows[:10] + rows[11:], batch_rows=3)["Request"]
    assert {key: bucket for _, key, _, bucket, _ in without_one.links} == {
        key: bucket for key, bucket in buckets.items() if key != "11"
    }


def test_a_function_that_gives_no_row_needs_a_rule_that_says_so(tmp_path):
    rows = [request(1, remark="none"), request(2, remark="x")]
    plain = Plain(tmp_path, PLAIN)
    assert fates(plain.run(rows)["Request"])["dropped"] == {"nothing": 1}
    (tmp_path / "other").mkdir()
    silent = {**PLAIN, "Request.yaml": PLAIN["Request.yaml"].replace("    no_rows: nothing\n", "")}
    with pytest.raises(StructureError, match="makes nothing of 1 rows") as caught:
        Plain(tmp_path / "other", silent).run(rows)
    assert "Request.yaml:5, " in str(caught.value.where)


def test_rows_that_another_target_counts_need_no_rule_where_they_give_none(tmp_path):
    uncounted = PLAIN["Request.yaml"].replace("    no_rows: nothing\n", "    counted: false\n")
    plain = Plain(tmp_path, {**PLAIN, "Request.yaml": uncounted})
    flow = plain.flow()
    assert flow.accounted == ()
    (tmp_path / "other").mkdir()
    named = PLAIN["Request.yaml"].replace("    expand: twice\n", "    counted: false\n    expand: twice\n")
    with pytest.raises(ConfigurationError, match=r"(?s)another target counts the rows.*Request.yaml:8.*remove it"):
        Plain(tmp_path / "other", {**PLAIN, "Request.yaml": named})


def test_a_function_that_cannot_have_what_the_mapping_makes_is_told_with_file_and_line(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        Plain(tmp_path, PLAIN).run([request(1, remark=None)])
    assert caught.value.what.startswith("function twice cannot read what the mapping gives it: AttributeError (test_")
    assert str(caught.value.where) == f"{tmp_path / 'files' / 'Request.yaml'}:6, request"
    assert isinstance(caught.value.__cause__, ConfigurationError)


def test_what_a_function_says_of_rows_is_not_told(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        Plain(tmp_path, PLAIN).run([request(1, remark="Mrs Miller")])
    assert "Miller" not in str(caught.value)
    assert "AssertionError" in caught.value.what


def test_what_the_machine_lacks_is_no_fault_of_the_mapping(tmp_path):
    with pytest.raises(FileNotFoundError):
        Plain(tmp_path, PLAIN).run([request(1, remark="gone")])


def test_a_function_sees_no_more_than_the_mapping_says(tmp_path):
    plain = Plain(tmp_path, PLAIN)
    with pytest.raises(ConfigurationError, match=r"(?s)it reads deleted, which the mapping does not say.*decisions: "):
        plain.run([request(1, remark="peek")])
    (tmp_path / "other").mkdir()
    told = PLAIN["Request.yaml"].replace("    expand: twice\n", "    expand: twice\n    decisions: deleted\n")
    other = Plain(tmp_path / "other", {**PLAIN, "Request.yaml": told})
    assert len(other.run([request(1, remark="peek")])["Request"].rows) == 1
    assert other.flow().decisions == ("deleted",)


FOLLOWS = "        follows: { model: Approval, part: manager }\n"
FOLLOWING = {
    "        only: { column: manager, is: given }\n": FOLLOWS,
    "{ from: manager_at, ": "{ from: manager_at, input: followed.decided_at, ",
}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("model: Approval,", "model: Approvals,", "unknown mapped model 'Approvals'"),
        ("part: manager }", "part: boss }", "unknown part of request in Approval 'boss'"),
        ("followed.decided_at", "followed.decided", "part 'manager' of Approval has no 'followed.decided'"),
        (
            "        follows: { model: Approval, part: manager }\n",
            "",
            "it reads followed.decided_at, and follows no part",
        ),
    ],
)
def test_what_a_row_follows_is_there(tmp_path, old, new, told):
    """Else the preparation ended with an error of Polars, hours later perhaps."""
    entry = FILES["Entry.yaml"]
    for before, after in FOLLOWING.items():
        assert before in entry
        entry = entry.replace(before, after)
    Requests(tmp_path, {**FILES, "Entry.yaml": entry})
    assert old in entry
    (tmp_path / "wrong").mkdir()
    with pytest.raises(ConfigurationError) as refused:
        Requests(tmp_path / "wrong", {**FILES, "Entry.yaml": entry.replace(old, new)})
    assert told in str(refused.value)
    assert "Entry.yaml:" in str(refused.value)
