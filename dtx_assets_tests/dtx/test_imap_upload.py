"""imap_upload → ImapUpload and DocumentMetadata (spec 4.6), and the mapping of files to documents both go through."""

from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from dtx_assets.dtx.system import SYSTEM
from dtx_assets.machinery.base.errors import StructureError
from dtx_assets.machinery.load import LoadSummary, load_target, open_run
from dtx_assets_tests.dtx.oracle import Result
from dtx_assets_tests.dtx.running import DECISIONS, SMALL_WORLD, Migration, imap_upload, reasons, rows
from dtx_assets_tests.machinery.load.prepared import Batch, Link, write_prepared

UPLOAD, METADATA = "ImapUpload", "DocumentMetadata"
DOCUMENTS = "docutrax_profiles_document"


@pytest.fixture
def own(tmp_path, database_url) -> Migration:
    return Migration(tmp_path, database_url)


def stored(migration: Migration, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(migration.database_url) as connection:
        return connection.execute(query).fetchall()


def load(migration: Migration, run_id: str, model: str, on_conflict: str = "keep_target") -> LoadSummary:
    context = open_run(migration.database_url, "dtx", run_id, mode="rehearsal", decisions={})
    context = replace(context, decisions=migration.lake.require(("dtx", "prepared", model)).metadata["decisions"])
    return load_target(
        "dtx", SYSTEM.target(model), migration.lake, migration.database_url, context, on_conflict=on_conflict
    )


def written(summary: LoadSummary) -> tuple[int, int, int]:
    return summary.inserted, summary.updated, summary.vanished


# --- which document a file became -------------------------------------------------------------------------------------


def documents(migration: Migration) -> dict[str, int]:
    migration.build_mappings(["document"])
    return dict(migration.lake.scan(("dtx", "mapping", "document")).collect().iter_rows())


def load_documents(migration: Migration, *files: str) -> dict[str, int]:
    """The documents that this migration makes of files, by file."""
    target = SYSTEM.target("Document")
    facts = {"original_filename": "x.pdf", "content_hash": "0" * 64, "status": "new", "needs_review": True}
    documents = [{"account_id": 101, "file": f"documents/101/{file}/x.pdf", **facts} for file in files]
    links = [Link("repo_file", file, {"": number}) for number, file in enumerate(files)]
    write_prepared(
        migration.lake, target, [Batch(rows=documents, links=links)], sources=["repo_file"], system=SYSTEM.name
    )
    load(migration, "documents", "Document")
    return dict(
        stored(migration, f"SELECT split_part(file, '/', 3), id FROM {DOCUMENTS} WHERE file LIKE 'documents/101/%'")
    )


AREA_4 = {"1": 901, "4": 902, "5": 902}


def test_documents_of_area_4_that_the_target_has(own):
    assert documents(own) == AREA_4


def test_documents_of_this_migration_that_the_target_still_has(own):
    made = load_documents(own, "12", "14")
    with psycopg.connect(own.database_url) as connection:
        connection.execute(f"DELETE FROM {DOCUMENTS} WHERE id = %s", [made["14"]])
    assert documents(own) == AREA_4 | {"12": made["12"]}


def test_a_file_that_both_made_a_document_of_is_told_one_way(own):
    """Area 4 names a file only after this migration made a document of it: what was written stays what counts."""
    made = load_documents(own, "1")
    assert documents(own) == AREA_4 | made


@pytest.mark.parametrize("other", [("1", "Document", 902), ("01", "Certificate", 901)])
def test_area_4_contradicts_itself(own, other):
    crosswalk = SMALL_WORLD.crosswalks["crosswalk_repo_file"]
    own.extract({"crosswalk_repo_file": [*crosswalk, *rows("repo_file_id target_model target_id", other)]}, "crosswalk")
    with pytest.raises(StructureError, match="crosswalk_repo_file gives several ids for repo_file_id 1"):
        own.build_mappings(["document"])


def test_the_mapping_is_made_after_the_documents_were_loaded():
    from dtx_assets.dtx.definitions import defs

    graph = defs.resolve_asset_graph()
    parents = {key.to_user_string(): graph.get(key).parent_keys for key in graph.get_all_asset_keys()}
    assert {key.to_user_string() for key in parents["dtx/mapping/document"]} >= {
        "dtx/target/Document",
        "dtx/crosswalk/crosswalk_repo_file",
    }


# --- model ------------------------------------------------------------------------------------------------------------

UPLOADS = [
    imap_upload(1, 1),
    imap_upload(2, "4.0", filesize="10.0", filename="", received_time="2020-01-02 03:04:05.5"),
    imap_upload(3, 2),
    imap_upload(4, None),
    imap_upload(5, "soon"),
    imap_upload(6, 5, received_time=None),
    imap_upload(7, 5, received_time="0000-00-00 00:00:00"),
    imap_upload(8, 99, filesize="big", sender=None),
    imap_upload(9, 1, filename=None),
    imap_upload(10, 1, sender="a\0b"),
    imap_upload(11, 1, filename=b"caf\xe9.pdf"),
    imap_upload(12, 1, filesize=str(2**63)),
    imap_upload(13, 1, filename="first"),
    imap_upload(13, 1, filename="again"),
    imap_upload(1, 1),
]


@pytest.mark.parametrize("batch_rows", [100_000, 1])
def test_each_upload_is_kept_with_its_document(migration, batch_rows):
    result = migration.run({"imap_upload": UPLOADS}, imap_upload="model", batch_rows=batch_rows)
    received = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    usual = ("sender@example.com", "certificate.pdf", 1024, received)
    assert sorted((tuple(row.values()) for row in result.rows[UPLOAD]), key=str) == sorted(
        [
            (901, *usual),
            (902, "sender@example.com", "", 10, received.replace(microsecond=500_000)),
            (None, *usual),
            (None, *usual),
            (None, *usual),
            (901, "sender@example.com", "again", 1024, received),
        ],
        key=str,
    )
    assert reasons(result, UPLOAD) == {
        "6": ["schema_violation"],
        "7": ["unparseable"],
        "8": ["schema_violation", "unparseable"],
        "9": ["schema_violation"],
        "10": ["unparseable"],
        "11": ["unparseable"],
        "12": ["unparseable"],
        "13": ["duplicate_key"],
    }
    books = result.accounting["imap_upload", UPLOAD]
    assert (books.read, books.migrated, books.rejected, dict(books.dropped)) == (15, 6, 8, {"identical": 1})
    # NULL is no document that was not found.
    assert dict(books.coerced) == {"document_not_found": 2}


def test_uploads_are_loaded_once_and_find_their_document_later(own):
    uploads = [imap_upload(1, 1), imap_upload(2, 1), imap_upload(3, 12)]
    everything = f"SELECT document_id, sender, filesize FROM {SYSTEM.target(UPLOAD).name} ORDER BY id"
    own.run({"imap_upload": uploads}, imap_upload="model")
    assert written(load(own, "first", UPLOAD)) == (3, 0, 0)
    known = ("sender@example.com", 1024)
    assert stored(own, everything) == [(901, *known), (901, *known), (None, *known)]
    own.run({"imap_upload": uploads}, imap_upload="model")
    assert written(load(own, "second", UPLOAD)) == (0, 0, 0)
    number = load_documents(own, "12")["12"]
    assert documents(own)["12"] == number
    own.run({"imap_upload": uploads}, imap_upload="model")
    assert written(load(own, "third", UPLOAD)) == (0, 1, 0)
    assert stored(own, everything)[2] == (number, *known)


# --- document_metadata ------------------------------------------------------------------------------------------------


def emails(result: Result) -> dict[int, dict[str, str | None]]:
    assert all(list(row["metadata"]) == ["imap"] for row in result.rows[METADATA])
    found = {row["id"]: row["metadata"]["imap"] for row in result.rows[METADATA]}
    assert len(found) == len(result.rows[METADATA])
    return found


@pytest.mark.parametrize("batch_rows", [100_000, 1])
def test_the_latest_upload_of_a_document_counts(migration, batch_rows):
    uploads = [
        imap_upload(1, 1, received_time="2021-01-01 00:00:00", filename="latest"),
        imap_upload(2, 1, received_time="2020-12-31 23:59:59.999999", filename="earlier"),
        # Files 4 and 5 are one document; at the same time the later row counts.
        imap_upload(3, 4, received_time="2021-01-01 00:00:00.25", filename="one"),
        imap_upload(4, 5, received_time="2021-01-01 00:00:00.25", sender=None, filename='é "\\\n'),
        # What is rejected for another reason beats nothing.
        imap_upload(5, 5, received_time="2022-01-01 00:00:00", filename="a\0b"),
        imap_upload(6, 1, received_time=None),
        imap_upload(7, 1, received_time="0000-00-00 00:00:00"),
        imap_upload(8, 2),
        imap_upload(9, None, received_time="never"),
        imap_upload(10, 1, received_time="2019-01-01 00:00:00", filesize="is not asked for", filename=None),
    ]
    result = migration.run({"imap_upload": uploads}, imap_upload="document_metadata", batch_rows=batch_rows)
    assert emails(result) == {
        901: {"sender": "sender@example.com", "received_at": "2021-01-01T00:00:00+00:00", "filename": "latest"},
        902: {"sender": None, "received_at": "2021-01-01T00:00:00.250000+00:00", "filename": 'é "\\\n'},
    }
    assert reasons(result, METADATA) == {
        "2": ["duplicate_key"],
        "3": ["duplicate_key"],
        "5": ["unparseable"],
        "6": ["schema_violation"],
        "7": ["unparseable"],
        "8": ["no_matching_row"],
        "9": ["no_matching_row", "unparseable"],
        "10": ["duplicate_key"],
    }
    books = result.accounting["imap_upload", METADATA]
    assert (books.read, books.migrated, books.rejected, dict(books.dropped)) == (10, 2, 8, {})


def test_times_are_told_in_utc_as_python_writes_them(migration):
    times = ("2020-07-01 00:00:00", "2020-07-01 00:00:00.000001", "0999-01-01 00:00:00")
    for received in times:
        result = migration.run(
            {"imap_upload": [imap_upload(1, 1, received_time=received)]}, imap_upload="document_metadata"
        )
        expected = datetime.fromisoformat(received).replace(tzinfo=UTC).isoformat()
        assert emails(result)[901]["received_at"] == expected
    result = migration.run(
        {"imap_upload": [imap_upload(1, 1, received_time=times[0])]},
        imap_upload="document_metadata",
        timezone="America/New_York",
    )
    assert emails(result)[901]["received_at"] == "2020-07-01T04:00:00+00:00"


def test_archive_migrates_nothing():
    flows = {flow.name for flow in SYSTEM.flows_under({**DECISIONS.chosen, "imap_upload": "archive"})}
    assert not {"imap_upload", "document_metadata"} & flows


METADATA_OF_ALL = f"SELECT id, metadata FROM {DOCUMENTS} ORDER BY id"


def email(filename: str) -> dict[str, object]:
    return {"imap": {"sender": "sender@example.com", "received_at": "2020-01-02T03:04:05+00:00", "filename": filename}}


def test_metadata_is_merged_beside_what_the_document_has(own):
    uploads = [imap_upload(1, 1, filename="a"), imap_upload(2, 4, filename="b")]
    with psycopg.connect(own.database_url) as connection:
        connection.execute(f"""UPDATE {DOCUMENTS} SET metadata = '{{"pages": 1.50}}' WHERE id = 901""")
    own.run({"imap_upload": uploads}, imap_upload="document_metadata")
    assert written(load(own, "first", METADATA)) == (0, 2, 0)
    assert stored(own, METADATA_OF_ALL) == [(901, {"pages": 1.5} | email("a")), (902, email("b"))]
    assert stored(own, "SELECT source_key, part, target_id FROM migration.mapping ORDER BY 1") == [
        ("1", "imap", "901"),
        ("2", "imap", "902"),
    ]
    # An upload is no file, though it is in the same target table.
    assert documents(own) == AREA_4
    own.run({"imap_upload": uploads}, imap_upload="document_metadata")
    assert written(load(own, "second", METADATA)) == (0, 0, 0)
    # A later upload of the same document takes the place of the one before.
    later = imap_upload(3, 1, filename="c", received_time="2020-01-02 03:04:06")
    own.run({"imap_upload": [*uploads, later]}, imap_upload="document_metadata")
    assert load(own, "third", METADATA).updated == 1
    assert stored(own, METADATA_OF_ALL)[0][1] == {
        "pages": 1.5,
        "imap": email("c")["imap"] | {"received_at": "2020-01-02T03:04:06+00:00"},
    }


def test_an_e_mail_that_someone_else_noted_stays(own):
    with psycopg.connect(own.database_url) as connection:
        connection.execute(
            f"""UPDATE {DOCUMENTS} SET metadata = '{{"imap": {{"sender": "by hand"}}}}' WHERE id = 901"""
        )
    uploads = [imap_upload(1, 1), imap_upload(2, 4, filename="b")]
    own.run({"imap_upload": uploads}, imap_upload="document_metadata")
    first = load(own, "first", METADATA)
    assert (first.updated, first.conflicts, first.rejected) == (1, 1, 1)
    assert stored(own, METADATA_OF_ALL) == [(901, {"imap": {"sender": "by hand"}}), (902, email("b"))]
    assert stored(own, "SELECT source_key, reasons FROM migration.rejected") == [("1", ["target_conflict"])]
    second = load(own, "second", METADATA, on_conflict="overwrite")
    assert second.updated == 1
    assert stored(own, METADATA_OF_ALL)[0] == (901, email("certificate.pdf"))
