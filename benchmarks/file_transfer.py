"""Files into a local S3 server, beside `rclone copy --checksum` of the same files into the same server, in one run.

    .venv/bin/python benchmarks/file_transfer.py [--small 5000] [--large 4]

Small files are 64 KiB, large ones 256 MiB. Ours are hashed before (the inventory, timed apart, which a second run
takes from what it knew) and verified after; rclone hashes while it sends. Figures are ratios of one run.
"""

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster_aws.s3  # noqa: F401 – two seconds, which a run has behind it long before it sends a file
import polars as pl

from dtx_assets.machinery.files.inventory import inventory
from dtx_assets.machinery.files.store import FileToSend, open_store, send
from dtx_assets_tests import servers

SMALL, LARGE = 64 * 1024, 256 * 1024 * 1024


def make_files(root: Path, number: int, size: int) -> pl.Series:
    """Files of random bytes; their paths below the root."""
    block = os.urandom(1 << 20)
    for each in range(number):
        path = root / f"{each % 100:02d}" / f"{each}.pdf"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(each.to_bytes(8, "big"))
            left = size - 8
            while left:
                left -= file.write(block[:left])
    return pl.Series([f"{each % 100:02d}/{each}.pdf".encode() for each in range(number)], dtype=pl.Binary)


def to_send(found: pl.DataFrame) -> Iterator[FileToSend]:
    for path, size, sha256 in found.select("path", "size", "sha256").iter_rows():
        yield FileToSend(path, path.decode(), size, sha256, "application/pdf")


def measure(directory: Path, server: servers.S3Server, name: str, number: int, size: int) -> None:
    root = directory / name
    paths = make_files(root, number, size)
    client = boto3.client("s3", endpoint_url=server.endpoint, region_name=server.region)
    for bucket in (f"warm-{name}", f"ours-{name}", f"rclone-{name}"):
        client.create_bucket(Bucket=bucket)
    if rclone := shutil.which("rclone"):
        # The first files of their size that the server takes are slow, whoever sends them.
        run_rclone(rclone, root, server, f"warm-{name}")
    started = time.perf_counter()
    found = inventory(root, paths)
    hashed = time.perf_counter() - started
    store = open_store(f"s3://ours-{name}")
    # What was written before is on the disk before anybody is measured, or they pay for it.
    os.sync()
    started = time.perf_counter()
    statuses = [result.status for result in send(to_send(found), root, store)]
    sent = time.perf_counter() - started
    assert statuses == ["sent"] * number
    started = time.perf_counter()
    assert {result.status for result in send(to_send(inventory(root, paths, found)), root, store)} == {"present"}
    again = time.perf_counter() - started
    megabytes = number * size / 1e6
    print(f"{number:,} files of {size / 1024:,.0f} KiB")
    print(f"  ours: hash        {hashed:7.1f} s  {megabytes / hashed:8.0f} MB/s")
    print(f"  ours: send        {sent:7.1f} s  {megabytes / sent:8.0f} MB/s  {number / sent:8.0f} files/s")
    print(f"  ours: once more   {again:7.1f} s")
    if rclone:
        os.sync()
        copied = run_rclone(rclone, root, server, f"rclone-{name}")
        print(f"  rclone --checksum {copied:7.1f} s  {megabytes / copied:8.0f} MB/s  {number / copied:8.0f} files/s")
        print(f"  rate of rclone's  {copied / sent:7.2f}    (with hashing {copied / (hashed + sent):.2f}; reach 1.00)")
    else:
        print("  rclone is not installed: nothing to compare with")
    shutil.rmtree(root)


def run_rclone(rclone: str, root: Path, server: servers.S3Server, bucket: str) -> float:
    remote = {
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "Other",
        "RCLONE_CONFIG_STORE_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_STORE_REGION": server.region,
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": server.access_key,
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": server.secret_key,
        "RCLONE_CONFIG": os.devnull,
    }
    # What is set for other S3 clients is none of rclone's business: an AWS_CA_BUNDLE stops it.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    started = time.perf_counter()
    command = [rclone, "copy", "--checksum", "--transfers", "8", str(root), f"store:{bucket}"]
    done = subprocess.run(command, check=False, env={**inherited, **remote}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"rclone: {done.stderr[-2000:]}")
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--small", type=int, default=5_000, help="files of 64 KiB")
    arguments.add_argument("--large", type=int, default=4, help="files of 256 MiB")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=os.environ.get("BENCH_DIR")) as scratch:
        directory = Path(scratch)
        (directory / "server").mkdir()
        with servers.seaweedfs(directory / "server") as server:
            os.environ.update(server.environment)
            measure(directory, server, "small", options.small, SMALL)
            measure(directory, server, "large", options.large, LARGE)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
