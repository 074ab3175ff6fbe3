"""The prepare engine on a made-up zoo: nothing is lost, batches make no difference, the old stays until all is done."""

import json
import os
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtx_assets.machinery.base import lake as lake_module
from dtx_assets.machinery.base.errors import SourceError, StructureError
from dtx_assets.machinery.base.lake import LEASE_SECONDS
from dtx_assets.machinery.base.scratch import SCRATCH
from dtx_assets.machinery.prepare.digests import content_digest
from dtx_assets.machinery.prepare.preparation import prepare_flow
from dtx_assets_tests.forking import run_script
from dtx_assets_tests.machinery import zoo as zoo_module
from dtx_assets_tests.machinery.zoo import FLOW, ONLY_ANIMALS, SPECIES_FLOW, Zoo, animal, balances, reasons

FEW = settings(max_examples=25)


@pytest.fixture
def zoo(tmp_path) -> Zoo:
    zoo = Zoo(tmp_path)
    zoo.land("animal", [animal(number, keeper=number, name=f"a{number}") for number in range(1, 11)])
    zoo.land("visit", [{"keeper_id": "3", "animal_name": "a3"}, {"keeper_id": "30", "animal_name": "a1"}])
    return zoo


@pytest.fixture(scope="module")
def shared_zoo(tmp_path_factory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


# --- what comes out ---------------------------------------------------------------------------------------------------


def test_rows_links_rejected_and_accounting(zoo):
    zoo.land(
        "animal",
        [
            animal(1, 1, "Cat ", "Mitzi  "),
            animal(2, 1, "dog", None),
            animal(3, 99),
            animal(4, 31, "cow", "x\x00"),
            animal(5, 1, "cat", "gone"),
            animal(6, 1, "cat", "a long name"),
            animal(6, 1, "cat", "Susi"),
            animal("6", 1, "cat", "Susi"),
            animal(None, 2),
            animal("x", 2),
        ],
    )
    zoo.land(
        "visit",
        [
            {"keeper_id": "30", "animal_name": "Mitzi"},
            {"keeper_id": "2", "animal_name": "Mitzi"},
            {"keeper_id": "77", "animal_name": "Mitzi"},
        ],
    )
    content = zoo.content(zoo.prepare())
    assert content.rows == [
        {"keeper_id": 101, "number": 1, "species": "Felis", "name": "Mitzi"},
        {"keeper_id": 101, "number": 2, "species": "Canis", "name": None},
        {"keeper_id": 101, "number": 6, "species": "Felis", "name": "Susi"},
    ]
    assert [link[:3] for link in content.links] == [
        ("animal", "1", 1),
        ("animal", "2", 2),
        ("animal", "6", 7),
        ("visit", "1", 1),
    ]
    assert json.loads(content.links[3][4][0])["name"] == "Mitzi"
    assert reasons(content) == {
        3: ["orphan_reference"],
        4: ["orphan_reference", "unmapped_value", "unparseable"],
        6: ["duplicate_key"],
        9: ["schema_violation"],
        10: ["schema_violation", "unparseable"],
    }
    assert reasons(content, "visit") == {2: ["no_matching_row"], 3: ["orphan_reference"]}
    assert content.accounting == {
        "animal": {
            "source_table": "animal",
            "target_table": "zoo_animal",
            "read": 10,
            "migrated": 3,
            "rejected": 5,
            "dropped": {"gone": 1, "identical": 1},
            "coerced": {"trimmed": 1},
        },
        "visit": {
            "source_table": "visit",
            "target_table": "zoo_animal",
            "read": 3,
            "migrated": 1,
            "rejected": 2,
            "dropped": {},
            "coerced": {},
        },
    }


def test_what_the_target_refuses_is_about_its_own_row_only(zoo):
    """The row that counts is too long for the target; the earlier one of the same key is not."""
    zoo.land("animal", [animal(1, name="Mitzi"), animal(1, name="much too long")])
    content = zoo.content(zoo.prepare(ONLY_ANIMALS))
    assert reasons(content) == {1: ["duplicate_key"], 2: ["schema_violation"]}
    assert content.rejected[1]["detail"] == "name: name is not too long"


def test_each_column_that_fails_is_named(zoo):
    zoo.land("animal", [animal("x", 99, None)])
    content = zoo.content(zoo.prepare(ONLY_ANIMALS))
    assert content.rejected[0]["detail"].split("; ") == [
        "keeper_id: 99 has no match in the crosswalk keeper",
        "animal_id: x is no integer",
        "kind: NULL is not listed in species.csv",
        "animal_id: animal_id is an integer",
    ]


def test_empty_tables_give_empty_datasets_with_their_columns(zoo):
    zoo.land("animal", [])
    zoo.land("visit", [])
    manifest = zoo.prepare()
    rows = zoo.lake.scan(manifest.key, manifest=manifest).collect()
    assert rows.height == 0
    assert rows.columns == ["_row", "keeper_id", "number", "species", "name"]
    assert zoo.content(manifest).accounting["animal"]["read"] == 0
    assert [part["part"] for part in manifest.metadata["parts"]] == ["00000"]


ANIMAL_ROWS = st.lists(
    st.builds(
        animal,
        number=st.sampled_from(["1", "2", "3", "3.0", "03", "4", "5", "x", "", None]),
        keeper=st.sampled_from(["1", "2", "30", "31", "99", "x", None]),
        kind=st.sampled_from(["cat", " DOG", "cow", None]),
        name=st.sampled_from(["Mitzi", "Mitzi ", "gone", "much too long", "a\x00b", b"b\xff", None]),
    ),
    max_size=30,
)
VISIT_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "keeper_id": st.sampled_from(["1", "2", "30", "31", "99", None]),
            "animal_name": st.sampled_from(["Mitzi", "nobody", None]),
        }
    ),
    max_size=10,
)


@FEW
@given(rows=ANIMAL_ROWS, visits=VISIT_ROWS, batch_rows=st.integers(1, 10), chunk=st.integers(1, 5))
def test_batches_and_files_make_no_difference(shared_zoo, rows, visits, batch_rows, chunk):
    shared_zoo.land("animal", rows)
    shared_zoo.land("visit", visits)
    whole = shared_zoo.content(shared_zoo.prepare())
    shared_zoo.land("animal", rows, chunk=chunk)
    manifest = shared_zoo.prepare(batch_rows=batch_rows)
    assert shared_zoo.content(manifest) == whole
    covered = [tuple(part["buckets"]) for part in manifest.metadata["parts"]]
    assert (covered[0][0], covered[-1][1]) == (0, 4095)
    assert all(left[1] + 1 == right[0] for left, right in pairwise(covered))


@FEW
@given(
    rows=ANIMAL_ROWS, visits=VISIT_ROWS, gone=st.sampled_from(["drop", "keep"]), batch_rows=st.sampled_from([3, 1000])
)
def test_every_row_read_is_migrated_rejected_or_dropped(shared_zoo, rows, visits, gone, batch_rows):
    shared_zoo.land("animal", rows)
    shared_zoo.land("visit", visits)
    content = shared_zoo.content(shared_zoo.prepare(gone=gone, batch_rows=batch_rows))
    for table, read in (("animal", rows), ("visit", visits)):
        entry = content.accounting[table]
        assert entry["read"] == len(read)
        assert balances(entry)
        linked = [link[2] for link in content.links if link[0] == table]
        rejected = [row["source_row"] for row in content.rejected if row["source_table"] == table]
        assert len(linked) == len(set(linked)) == entry["migrated"]
        assert len(rejected) == len(set(rejected)) == entry["rejected"]
        dropped = [row["source_row"] for row in content.dropped if row["source_table"] == table]
        rules = Counter(row["rule"] for row in content.dropped if row["source_table"] == table)
        assert len(dropped) == len(set(dropped))
        assert rules == entry["dropped"]
        assert sorted([*linked, *rejected, *dropped]) == list(range(1, len(read) + 1))
    assert len(content.rows) == content.accounting["animal"]["migrated"]
    assert all(row["reasons"] == sorted(set(row["reasons"])) != [] for row in content.rejected)


@FEW
@given(rows=ANIMAL_ROWS, batch_rows=st.integers(1, 10))
def test_merged_rows_are_those_of_all_batches_together(shared_zoo, rows, batch_rows):
    shared_zoo.land("animal", rows)
    manifest = shared_zoo.prepare(SPECIES_FLOW, batch_rows=batch_rows)
    content = shared_zoo.content(manifest)
    assert sum(row["animals"] for row in content.rows) == content.accounting["animal"]["migrated"] == len(content.links)
    assert len({row["name"] for row in content.rows}) == len(content.rows)
    assert content.accounting["animal"]["read"] == len(rows)
    assert len(content.rejected) == content.accounting["animal"]["rejected"]
    assert [part["buckets"] for part in manifest.metadata["parts"]] == [[0, 4095]]


@pytest.mark.parametrize("batch_rows", [1, 4, 1000])
def test_progress_ends_at_the_number_of_rows(zoo, batch_rows):
    seen = []
    zoo.prepare(progress=lambda done, total, rejected: seen.append((done, total)), batch_rows=batch_rows)
    assert {total for _, total in seen} == {12}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (12, 12)
    assert len(seen) == {1: 16, 4: 4, 1000: 1}[batch_rows]


# --- rejected rows ----------------------------------------------------------------------------------------------------


def test_a_rejected_row_is_kept_whole(zoo):
    """Columns that nobody named too, whatever they are called, with what is no text shown as escapes."""
    columns = (*zoo_module.ANIMAL.columns, "Größe in %", "_problems", "extra:x", ":name", "note")
    row = animal("1", 99, name=b"\xffM\xc3\xa4", note='a\x00b\\x00c"\u2028\t\U0001f408')
    zoo.land("animal", [row | {"Größe in %": "1", "_problems": "2", "extra:x": None, ":name": ""}], columns=columns)
    [rejected] = zoo.content(zoo.prepare(ONLY_ANIMALS)).rejected
    assert json.loads(rejected["row"]) == {
        "animal_id": "1",
        "keeper_id": "99",
        "kind": "cat",
        "name": r"\xffMä",
        "Größe in %": "1",
        "_problems": "2",
        "extra:x": None,
        ":name": "",
        "note": 'a\\x00b\\x00c"\u2028\t\U0001f408',
    }
    assert rejected["reasons"] == ["orphan_reference", "unparseable"]
    assert "holds bytes that are no text" in rejected["detail"]


@settings(FEW, max_examples=10)
@given(texts=st.lists(st.text(max_size=20) | st.binary(max_size=20), min_size=1, max_size=20))
def test_postgresql_takes_every_rejected_row(shared_zoo, postgres_server, texts):
    texts = [text.decode() if isinstance(text, bytes) and _is_text(text) else text for text in texts]
    shared_zoo.land("animal", [animal(number, name=text) for number, text in enumerate(texts, 1)])
    manifest = shared_zoo.prepare(replace(ONLY_ANIMALS, run=zoo_module.rejecting_all))
    rejected = shared_zoo.content(manifest).rejected
    assert [row["partial"] for row in rejected] == [False, True] * len(texts)
    url = postgres_server.create_database("zoo_rejected")
    try:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE rejected (source_key text, detail text, row jsonb)")
            values = [(row["source_key"], row["detail"], row["row"]) for row in rejected if not row["partial"]]
            cursor.executemany("INSERT INTO rejected VALUES (%s, %s, %s)", values)
            read = dict(cursor.execute("SELECT source_key, row->>'name' FROM rejected").fetchall())
    finally:
        postgres_server.drop_database("zoo_rejected")
    assert read == {str(number): _shown(text) for number, text in enumerate(texts, 1)}


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _shown(text: str | bytes) -> str:
    decoded = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    return decoded.replace("\x00", "\\x00")


def test_a_key_with_a_nul_has_a_name_that_postgresql_takes(zoo):
    zoo.land("animal", [animal("1\x00", 1)])
    assert zoo.content(zoo.prepare(ONLY_ANIMALS)).rejected[0]["source_key"] == r"1\x00"


# --- prepared again ---------------------------------------------------------------------------------------------------


def test_the_same_again_is_not_prepared_again(zoo):
    first = zoo.prepare()
    assert zoo.prepare() == first
    assert zoo.prepare(cutover_at=datetime(2030, 1, 1, tzinfo=UTC)) == first, "this flow does not ask what now is"


def test_changed_code_of_a_system_is_prepared_anew(zoo, tmp_path):
    zoo.system = replace(zoo.system, code_dir=tmp_path / "code")
    zoo.system.code_dir.mkdir()
    (zoo.system.code_dir / "flows.py").write_text("GONE = 1\n")
    first = zoo.prepare()
    assert zoo.prepare() == first
    (zoo.system.code_dir / "flows.py").write_text("GONE = 2\n")
    assert zoo.prepare() != first


@pytest.mark.parametrize(
    "change",
    [{"gone": "keep"}, {"batch_rows": 3}, {"legacy_timezone": "Europe/Berlin"}],
    ids=lambda change: next(iter(change)),
)
def test_another_choice_is_prepared_anew(zoo, change):
    first = zoo.prepare()
    second = zoo.prepare(**change)
    assert second.version != first.version
    assert zoo.prepare(**change) == second
    assert zoo.prepare().version not in (first.version, second.version)


def test_another_cutover_time_is_prepared_anew_where_the_flow_asks_for_it(zoo):
    flow = replace(FLOW, uses_cutover_time=True)
    first = zoo.prepare(flow)
    later = zoo.prepare(flow, cutover_at=datetime(2030, 1, 1, tzinfo=UTC))
    assert later.version != first.version
    assert later.metadata["cutover_at"] == "2030-01-01T00:00:00+00:00"
    assert zoo.prepare(flow, cutover_at=datetime(2030, 1, 1, tzinfo=UTC)) == later


@pytest.mark.parametrize(("file", "is_read"), [("Animal.yaml", True), ("decisions.yaml", False), ("new.csv", False)])
def test_only_what_reads_an_edited_mapping_file_is_prepared_anew(zoo, file, is_read):
    first = zoo.prepare()
    with (zoo.mappings_dir / file).open("a") as stream:
        stream.write("# looked at again\n")
    assert (zoo.prepare().version != first.version) is is_read


def test_other_input_is_prepared_anew(zoo):
    first = zoo.prepare()
    zoo.land("animal", [animal(1)])
    second = zoo.prepare()
    assert len(zoo.content(second).rows) == 1
    zoo.land_keepers({"1": 500})
    third = zoo.prepare()
    assert zoo.content(third).rows[0]["keeper_id"] == 500
    assert len({first.version, second.version, third.version}) == 3


def test_rows_without_the_rejected_rows_of_their_preparation_are_prepared_anew(zoo):
    """As when a run dies between the two, and the next one has the first one's choices again."""
    first = zoo.prepare()
    with zoo.lake.write(("zoo", "rejected", "Animal"), run_id="died") as writer:
        writer.add(zoo.lake.scan(("zoo", "rejected", "Animal")).collect().clear())
        writer.metadata["preparation"] = "another"
    second = zoo.prepare()
    assert second.version != first.version
    assert zoo.lake.require(("zoo", "rejected", "Animal")).metadata["preparation"] == second.metadata["preparation"]


# --- nothing is replaced by what is not whole -------------------------------------------------------------------------


def datasets(zoo: Zoo) -> dict[str, object]:
    return {layer: zoo.lake.manifest(("zoo", layer, "Animal")) for layer in ("prepared", "rejected")}


@pytest.mark.parametrize("batch_rows", [2, 1000])
@pytest.mark.parametrize("fault", [zoo_module.losing_a_row, zoo_module.doubling_a_row])
def test_accounting_that_does_not_balance_replaces_nothing(zoo, fault, batch_rows):
    zoo.prepare()
    before = datasets(zoo)
    with pytest.raises(StructureError, match="accounting of animal does not balance: 10 rows were read, ") as told:
        zoo.prepare(replace(FLOW, run=fault), gone="keep", batch_rows=batch_rows)
    assert told.value.where == "flow animal"
    assert datasets(zoo) == before
    assert list(zoo.settings.home.glob("*batches*")) == []


def test_a_first_preparation_that_fails_leaves_nothing(zoo):
    zoo.land("animal", [animal(1, kind="dog"), animal(2, keeper=2, kind="cat")])
    with pytest.raises(ZeroDivisionError):
        zoo.prepare(replace(FLOW, run=zoo_module.failing_late), batch_rows=1)
    assert datasets(zoo) == {"prepared": None, "rejected": None}
    left = [
        path
        for path in (zoo.directory / "lake" / "zoo").rglob("*.parquet")
        if path.parts[-4] in ("prepared", "rejected")
    ]
    assert left == []
    assert list(zoo.settings.home.glob(f"{SCRATCH}*")) == []


@pytest.mark.parametrize("batch_rows", [2, 1000])
def test_a_missing_required_column_replaces_nothing(zoo, batch_rows):
    zoo.prepare()
    before = datasets(zoo)
    zoo.land("animal", [{"animal_id": "1"}] * 5, columns=("animal_id", "name"))
    with pytest.raises(SourceError, match="animal lacks the required column kind"):
        zoo.prepare(batch_rows=batch_rows)
    assert datasets(zoo) == before
    assert list(zoo.settings.home.glob(f"{SCRATCH}*")) == []


def test_a_column_that_an_option_requires(zoo):
    flow = replace(FLOW, required=lambda chosen: {"animal": ("name",)} if chosen["gone"] == "drop" else {})
    zoo.land("animal", [animal(1)], columns=("animal_id", "keeper_id", "kind"))
    with pytest.raises(SourceError, match="animal lacks the required column name"):
        zoo.prepare(flow)
    assert zoo.content(zoo.prepare(flow, gone="keep")).rows[0]["name"] is None


@pytest.mark.parametrize("layer", [("legacy", "visit"), ("mapping", "keeper")])
def test_what_is_not_there_is_told_by_name(zoo, layer):
    (zoo.directory / "lake" / "zoo" / "/".join(layer) / "manifest.json").unlink()
    with pytest.raises(StructureError, match=f"zoo/{layer[0]}/{layer[1]} has not been materialised"):
        zoo.prepare()
    assert datasets(zoo) == {"prepared": None, "rejected": None}


def test_a_source_that_is_landed_anew_meanwhile_replaces_nothing(zoo):
    """The new landing has as many rows, so the accounting would not notice."""
    zoo.prepare()
    before = datasets(zoo)

    def landing_anew(inputs):
        zoo.land("animal", [animal(number, keeper=number, name="new") for number in range(1, 11)])
        return zoo_module.animals(inputs)

    with pytest.raises(StructureError, match="another run landed animal anew") as told:
        zoo.prepare(replace(FLOW, run=landing_anew), gone="keep")
    assert "run again" in told.value.remedy
    assert datasets(zoo) == before


def test_what_is_read_is_held(zoo):
    held = []

    def looking(inputs):
        held.extend(path.relative_to(zoo.directory / "lake" / "zoo") for path in zoo.directory.rglob("leases/*"))
        return zoo_module.animals(inputs)

    zoo.prepare(replace(FLOW, run=looking))
    assert {path.parts[:2] for path in held} == {("legacy", "animal"), ("legacy", "visit"), ("mapping", "keeper")}
    assert list(zoo.directory.rglob("leases/*")) == []


def test_a_killed_run_leaves_the_old_and_its_scratch_is_removed_later(zoo):
    zoo.prepare()
    before = datasets(zoo)
    script = textwrap.dedent(f"""
        import os, signal
        from dataclasses import replace
        from pathlib import Path
        from dtx_assets_tests.machinery.zoo import FLOW, Zoo

        killed = replace(FLOW, run=lambda inputs: os.kill(os.getpid(), signal.SIGKILL))
        Zoo(Path({str(zoo.directory)!r})).prepare(killed, batch_rows=2)
    """)
    assert run_script(script).returncode == -9
    assert datasets(zoo) == before
    [scratch] = zoo.settings.home.glob(f"{SCRATCH}*")
    assert any(path.is_file() for path in scratch.rglob("*"))
    zoo.prepare(batch_rows=3)
    assert scratch.exists(), "it may be one of a run that is going on"
    long_ago = scratch.stat().st_mtime - LEASE_SECONDS - 1
    os.utime(scratch, (long_ago, long_ago))
    zoo.prepare(batch_rows=4)
    assert not scratch.exists()


def test_there_may_be_more_batches_than_files_may_be_open(tmp_path):
    """2,000 batches of a row, where a process may open 256 files; and more prepared files than that are read."""
    zoo = Zoo(tmp_path)
    zoo.land("animal", [animal(number, keeper=number % 29 + 1) for number in range(1, 301)])
    zoo.land("visit", [{"keeper_id": str(number), "animal_name": "a"} for number in range(2_000)])
    script = textwrap.dedent(
        f"""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from pathlib import Path
        from dtx_assets.machinery.prepare.batches import SourceRows, legacy_batches
        from dtx_assets.machinery.sources.frames import legacy_frame
        from dtx_assets_tests.machinery.zoo import ONLY_ANIMALS, VISIT, Zoo

        zoo = Zoo(Path({str(tmp_path)!r}))
        landed, keepers = zoo.lake.require(("zoo", "legacy", "visit")), zoo.lake.scan(("zoo", "mapping", "keeper"))
        visits = SourceRows.of(VISIT, legacy_frame(zoo.lake, "zoo", VISIT), 2_000, "keeper_id", keepers)
        with legacy_batches([visits], [landed], 1, zoo.settings.home) as batches:
            heights = [frames["visit"].height for _, _, frames in batches]
        manifest = zoo.prepare(ONLY_ANIMALS, batch_rows=1)
        files = len(manifest.tables["rows"].files)
        print(len(heights), sum(heights), files, zoo.lake.scan_files(manifest, "rows").collect().height)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["2048", "2000", "512", "300"], done.stderr[-2_000:]


def test_two_targets_of_one_flow_are_prepared_together(zoo):
    def both(inputs):
        outcome, other = zoo_module.animals(inputs), zoo_module.species(inputs)
        outcome.prepared |= other.prepared
        outcome.rejected |= other.rejected
        return outcome

    flow = replace(
        FLOW,
        targets=("Animal", "Species"),
        run=both,
        merge={"Species": zoo_module.one_row_a_species},
    )
    manifests = prepare_flow(flow, zoo.settings_of_a_run(batch_rows=3))
    assert manifests["Animal"].metadata["preparation"] == manifests["Species"].metadata["preparation"]
    assert zoo.content(manifests["Species"]).rows == [{"name": "Felis", "animals": 10}]
    (zoo.directory / "lake/zoo/prepared/Species/manifest.json").unlink()
    again = prepare_flow(flow, zoo.settings_of_a_run(batch_rows=3))
    assert again["Animal"].version != manifests["Animal"].version, "both are of one preparation again"


def test_the_run_that_prepared_is_named(zoo):
    assert zoo.prepare().run_id == "run-0"
    assert Path(zoo.lake.location(zoo.prepare(), "")).name == zoo.prepare().version


@pytest.mark.parametrize(("is_rejected", "times"), [(True, 8), (False, 6)])
def test_a_large_field_costs_a_few_times_its_size(tmp_path, is_rejected, times):
    """Prepared in a process of its own, whose peak of memory is beyond what a small table has taken there."""
    Zoo(tmp_path / "large").land("animal", [animal(1), animal(2, name="some words; " * (4 << 20))])
    script = textwrap.dedent(
        f"""
        import re
        from dataclasses import replace
        from pathlib import Path
        from dtx_assets_tests.machinery import zoo as made_up

        def peak():
            # Not `ru_maxrss`, which begins with what the process that started this one had.
            return int(re.search("VmHWM: *\\\\t* *([0-9]+)", Path("/proc/self/status").read_text())[1]) >> 10

        if not {is_rejected}:
            columns = [replace(each, max_length=None) for each in made_up.ANIMALS.columns]
            made_up.ANIMALS = replace(made_up.ANIMALS, columns=tuple(columns))
        directory = Path({str(tmp_path)!r})
        small, large = (made_up.Zoo(directory / name) for name in ("small", "large"))
        small.land("animal", [made_up.animal(1), made_up.animal(2, name="a long name")])
        small.prepare(made_up.ONLY_ANIMALS)
        before = peak()
        made = large.prepare(made_up.ONLY_ANIMALS)
        print(peak() - before, made.tables["rows"].rows)
        """
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    used, rows = map(int, done.stdout.split())
    assert rows == (1 if is_rejected else 2)
    assert used < times * 48, f"{used} MB for a field of 48 MB"


@pytest.mark.parametrize("texts", [["a", "b" * 20, None], ["b" * 20], [None, "b" * 20]])
def test_a_digest_tells_large_texts_apart(monkeypatch, texts):
    """It changes with any of their values, and with nothing else."""
    monkeypatch.setattr(lake_module, "LARGE_TEXT", 4)
    frame = pl.DataFrame({"number": range(len(texts)), "text": texts})
    longer = pl.col("text").str.len_bytes() > 4
    others = [
        frame.with_columns(text=pl.when(longer).then(pl.lit("c" * 20)).otherwise("text")),
        frame.with_columns(pl.col("number") + 1),
        frame.clear(),
    ]
    assert content_digest(frame) == content_digest(frame.clone())
    assert len({content_digest(each) for each in (frame, *others)}) == 4
