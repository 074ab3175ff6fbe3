"""Documents of 12 fields from `.bson` into the lake, and into target values, beside `bson.decode_file_iter` alone.

    .venv/bin/python benchmarks/documents.py [--rows 100000]

All in one process, one after the other; the peak of memory is that of the process after each.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import bson
import polars as pl
from bson import Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from dtx_assets.machinery.base.lake import Lake
from dtx_assets.machinery.model.legacy import LegacyTable
from dtx_assets.machinery.sources import open_source
from dtx_assets.machinery.sources.frames import legacy_frame
from dtx_assets.machinery.transforms.columns import GENERIC, TransformContext

SPACE = "9ff85368-0ce2-530b-bca5-ea5ff5b21b75"
COLUMNS = {
    "_id": ("bson_uuid", {"namespace": SPACE}),
    "name": ("bson_text", {}),
    "email": ("bson_text", {}),
    "employees": ("bson_integer", {}),
    "revenue": ("bson_integer", {"bits": 64}),
    "active": ("bson_boolean", {}),
    "createdAt": ("bson_timestamp", {}),
    "status": ("bson_enum", {"labels": ["ACTIVE", "INACTIVE"]}),
    "assigned_to": ("bson_uuid", {"namespace": SPACE}),
    "industry": ("bson_uuid", {"namespace": SPACE}),
    "watchers": ("bson_uuids", {"namespace": SPACE}),
    "__v": ("bson_integer", {}),
}
ACCOUNTS = LegacyTable("accounts", "crm", tuple(COLUMNS), key=("_id",), kind_of=lambda _: "json")


def documents(rows: int) -> Iterator[bytes]:
    for number in range(rows):
        users = [ObjectId(f"{(number + each) % 1000:024x}") for each in range(3)]
        yield bson.encode(
            {
                "_id": ObjectId(f"{number:024x}"),
                "name": f"Account {number}",
                "email": f"account.{number}@example.com",
                "employees": number % 5000,
                "revenue": Int64(number * 1000),
                "active": bool(number % 2),
                "createdAt": DatetimeMS(1_600_000_000_000 + number * 1000),
                "status": "ACTIVE" if number % 3 else "INACTIVE",
                "assigned_to": users[0],
                "industry": users[1],
                "watchers": users,
                "__v": 0,
            }
        )


@contextmanager
def timed(what: str, rows: int) -> Iterator[None]:
    started, spent = time.perf_counter(), time.process_time()
    yield
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{what:<32} {rows / seconds:10,.0f} documents a second  {rows / spent:10,.0f} a second of CPU  {peak:6,.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / "dump"
        dump.mkdir()
        with (dump / "accounts.bson").open("wb") as stream:
            stream.writelines(documents(rows))
        with timed("bson.decode_file_iter alone", rows), (dump / "accounts.bson").open("rb") as stream:
            for _ in bson.decode_file_iter(stream):
                pass
        lake = Lake(str(Path(scratch) / "lake"))
        with timed("landed", rows), open_source(str(dump)) as source:
            source.extract(ACCOUNTS, lake, ("crm", "legacy", "accounts"), "one")
        with timed("landed again, unchanged", rows), open_source(str(dump)) as source:
            source.extract(ACCOUNTS, lake, ("crm", "legacy", "accounts"), "two")
        context = TransformContext({}, {}, {}, "UTC", datetime.now(UTC))
        with timed("values of all columns", rows):
            frame = legacy_frame(lake, "crm", ACCOUNTS)
            for offset in range(0, rows, 100_000):
                batch = frame.slice(offset, 100_000).collect(engine="streaming")
                batch.select(
                    GENERIC[transform]([pl.col(name)], context, **settings).value.alias(name)
                    for name, (transform, settings) in COLUMNS.items()
                )


if __name__ == "__main__":
    main()
