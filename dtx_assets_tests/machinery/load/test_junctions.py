"""Pairs that both sides name, in the target: each is there once, and stays while one side's entry is left."""

import signal
from pathlib import Path

import pytest

from dtx_assets.machinery.load.subset import Subset
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery.clubs import Clubs, mapped_by, pair

PEOPLE = {1: [11, 12], 2: [11], 3: [13, 12, 11], 4: [14], 5: []}
CLUB = {11: [1, 2, 4], 12: [3], 13: [3, 5], 14: [], 15: [1, 2, 3, 4, 5]}
PAIRS = sorted({entry[3] for entry in mapped_by(PEOPLE, CLUB)})
ACCOUNTING = {"club": (5, 4, 0), "people": (5, 4, 0)}


@pytest.fixture
def clubs(tmp_path: Path, database_url: str) -> Clubs:
    return Clubs(tmp_path, database_url).make_target()


def test_each_pair_is_written_once_and_a_second_run_writes_nothing(clubs):
    clubs.land(PEOPLE, CLUB)
    done = clubs.load("first")
    assert (done.inserted, done.unchanged, done.rejected) == (len(PAIRS), 0, 0)
    assert clubs.pairs() == PAIRS
    assert clubs.mapped() == mapped_by(PEOPLE, CLUB)
    assert clubs.accounting("first") == ACCOUNTING
    # Several parts, and documents whose pairs lie in several of them: else this tests little.
    assert clubs.sql("SELECT count(*) > 2 FROM migration.batch WHERE rows_inserted > 0") == [(True,)]
    assert clubs.sql(
        "SELECT count(DISTINCT batch_id) > 1 FROM migration.mapping_entry WHERE source_key = '00000000000000000000000f'"
    ) == [(True,)]
    before = clubs.state()
    again = clubs.load("second")
    assert (again.inserted, again.unchanged, again.skipped_parts > 2) == (0, len(PAIRS), True)
    clubs.sql("UPDATE migration.batch SET digest = 'another'")
    again = clubs.load("third")
    assert (again.inserted, again.unchanged, again.skipped_parts) == (0, len(PAIRS), 0)
    assert clubs.state() == before
    assert clubs.accounting("third") == ACCOUNTING
    found = clubs.verify()
    assert (found.is_clean, found.rows, found.owned_by_others) == (True, len(PAIRS), 0)


def test_a_dry_run_says_how_many_pairs_there_would_be(clubs):
    clubs.land(PEOPLE, CLUB)
    assert clubs.load("dry", dry=True).inserted == len(PAIRS)
    assert clubs.pairs() == []


def test_a_pair_stays_while_one_side_names_it_and_an_undo_brings_the_entries_back(clubs):
    clubs.land(PEOPLE, CLUB)
    clubs.load("first")
    # 1-11 is named by the club alone now, 3-12 by the person alone; 2-15 by nobody; 5-11 is new.
    people = PEOPLE | {1: [12], 5: [11]}
    club = CLUB | {12: [], 15: [1, 3, 4, 5]}
    clubs.land(people, club)
    done = clubs.load("second")
    assert (done.inserted, done.vanished) == (1, 1)
    assert clubs.pairs() == sorted([*PAIRS, pair(5, 11)])
    gone = ("club", 15, 2, pair(2, 15))
    assert clubs.mapped() == sorted(
        [*mapped_by(people, club), gone], key=lambda entry: (entry[0] == "club", *entry[1:])
    )
    assert clubs.sql("SELECT target_key, cause FROM migration.vanished") == [
        (f'["{pair(2, 15)[0]}", "{pair(2, 15)[1]}"]', "gone")
    ]
    assert {name: count for name, count in clubs.verify().counts.items() if count} == {"extra": 1}
    undone = clubs.undo("second")
    assert (undone.deleted["Membership"], undone.left) == (1, [])
    assert clubs.pairs() == PAIRS
    assert clubs.mapped() == mapped_by(PEOPLE, CLUB)
    undone = clubs.undo("first")
    assert (undone.deleted["Membership"], undone.left) == (len(PAIRS), [])
    assert (clubs.pairs(), clubs.mapped()) == ([], [])


def test_a_side_that_comes_later_adds_its_entries_and_an_undo_of_it_leaves_the_pairs(clubs):
    clubs.land(PEOPLE, {number: [] for number in CLUB})
    assert clubs.load("first").inserted == 7
    clubs.land(PEOPLE, CLUB)
    assert clubs.load("second").inserted == len(PAIRS) - 7
    assert clubs.mapped() == mapped_by(PEOPLE, CLUB)
    clubs.undo("second")
    assert clubs.pairs() == sorted({entry[3] for entry in mapped_by(PEOPLE, {})})
    assert clubs.mapped() == mapped_by(PEOPLE, {})


def test_pairs_that_the_application_made_are_adopted_and_what_it_deleted_stays_deleted(clubs):
    clubs.land(PEOPLE, {number: [] for number in CLUB})
    for model in ("Person", "Club"):
        clubs.sql(f"INSERT INTO \"{model}\" SELECT gen_random_uuid(), 'theirs'")
    clubs.sql('INSERT INTO "Membership" SELECT p.id, c.id FROM "Person" AS p, "Club" AS c')
    [theirs] = clubs.pairs()
    clubs.load("first")
    clubs.sql(f"""DELETE FROM "Membership" WHERE (person_id, club_id) = ('{pair(1, 12)[0]}', '{pair(1, 12)[1]}')""")
    clubs.sql(f"""DELETE FROM "Membership" WHERE (person_id, club_id) = ('{pair(2, 11)[0]}', '{pair(2, 11)[1]}')""")
    clubs.sql(f"""INSERT INTO "Membership" VALUES ('{pair(5, 15)[0]}', '{pair(5, 15)[1]}')""")
    clubs.land(PEOPLE | {5: [15]}, {11: [2, 1], 12: [1], 13: [], 14: [], 15: []})
    done = clubs.load("second")
    assert (done.inserted, done.adopted, done.conflicts) == (0, 1, 2)
    assert clubs.rejected() == [
        ("club", 11, ["target_conflict"], True),
        ("club", 12, ["target_conflict"], False),
        ("people", 1, ["target_conflict"], True),
        ("people", 2, ["target_conflict"], False),
    ]
    assert clubs.accounting("second") == {"club": (5, 1, 1), "people": (5, 4, 1)}
    assert pair(1, 12) not in clubs.pairs()
    assert (clubs.verify().counts["lost"], clubs.verify().owned_by_others) == (2, 1)
    clubs.undo("second")
    clubs.undo("first")
    assert clubs.pairs() == sorted([theirs, pair(5, 15)])


def test_documents_that_the_load_refuses_take_their_pairs_along(clubs):
    clubs.land(PEOPLE, CLUB, names={3: "refused"})
    done = clubs.load("first")
    left = sorted(each for each in PAIRS if each[0] != pair(3, 0)[0])
    assert done.inserted == len(left)
    assert clubs.pairs() == left
    assert clubs.rejected() == [
        ("club", 12, ["orphan_reference"], False),
        ("club", 13, ["orphan_reference"], True),
        ("club", 15, ["orphan_reference"], True),
        ("people", 3, ["orphan_reference"], False),
    ]
    assert clubs.accounting("first") == {"club": (5, 3, 1), "people": (5, 3, 1)}
    before = clubs.state()
    clubs.load("second")
    assert clubs.state() == before
    clubs.land(PEOPLE, CLUB)
    assert clubs.load("third").rejected == 0
    assert (clubs.pairs(), clubs.rejected()) == (PAIRS, [])


@pytest.mark.parametrize(("rows", "people", "club"), [(2, (2, 2, 0), (1, 1, 0)), (9, (4, 4, 0), (4, 4, 0))])
def test_the_first_documents_alone_are_loaded_with_what_they_name(clubs, rows, people, club):
    clubs.land(PEOPLE, CLUB)
    clubs.load("first", subset=Subset("first", rows))
    # Of a club that names only pairs of later people nothing is taken.
    assert clubs.accounting("first") == {"people": people, "club": club}
    named = {number: [each for each in PEOPLE[number] if rows == 9 or each < 13] for number in list(PEOPLE)[:rows]}
    assert set(clubs.pairs()) >= {entry[3] for entry in mapped_by(named, {})}
    clubs.load("second")
    assert (clubs.pairs(), clubs.mapped()) == (PAIRS, mapped_by(PEOPLE, CLUB))


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, sys
os.environ["DTX_FAILPOINT"] = sys.argv[4]
from pathlib import Path
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery.clubs import Clubs
clubs = Clubs(Path(sys.argv[1]), sys.argv[2])
clubs.load("killed") if sys.argv[3] == "load" else clubs.undo("second")
"""


def killed(clubs: Clubs, what: str, point: str) -> None:
    arguments = [str(clubs.directory), clubs.url, what, point]
    done = run_script(KILLED, *arguments)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "point",
    [
        # Each of the three tables has several parts; the last of them are the junction's.
        "load.after_mapping:8",
        "load.before_commit:9",
        "load.after_commit:7",
        "load.after_removal:3",
        "load.after_settling:3",
        "load.finished:3",
    ],
)
def test_a_load_that_is_killed_goes_on(clubs, point):
    clubs.land(PEOPLE, {number: CLUB[number] if number < 13 else [] for number in CLUB})
    clubs.load("first")
    clubs.land(PEOPLE | {1: [12]}, CLUB)
    clubs.prepare("delta")
    first = point not in ("load.after_removal:3", "load.after_settling:3", "load.finished:3")
    if first:
        clubs.undo("first")
    killed(clubs, "load", point)
    clubs.load("second")
    assert clubs.mapped() == mapped_by(PEOPLE | {1: [12]}, CLUB)
    assert clubs.pairs() == PAIRS
    assert clubs.verify().is_clean
    for run in ("second", "killed", *([] if first else ["first"])):
        clubs.undo(run)
    assert (clubs.pairs(), clubs.mapped()) == ([], [])


@pytest.mark.parametrize(
    "point", ["undo.before_commit:2", "undo.after_commit:2", "undo.after_settling", "undo.finished"]
)
def test_an_undo_that_is_killed_goes_on(clubs, point):
    clubs.land(PEOPLE, {number: [] for number in CLUB})
    clubs.load("first")
    clubs.land(PEOPLE | {1: [12]}, CLUB)
    clubs.load("second")
    killed(clubs, "undo", point)
    clubs.undo("second")
    assert clubs.pairs() == sorted({entry[3] for entry in mapped_by(PEOPLE, {})})
    assert clubs.mapped() == mapped_by(PEOPLE, {})
    clubs.undo("first")
    assert (clubs.pairs(), clubs.mapped()) == ([], [])
