"""Bad environment variables, and places that cannot be used: the state directory, the lake, the archive."""

import resource
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from dtx_assets.dtx.system import SYSTEM
from dtx_assets_tests.bad_inputs.case import Case, Refused
from dtx_assets_tests.bad_inputs.place import EXTRACT, STATUS, Place

TITLE = "Environment variables and places"
SEND = ("run", "--select", "+target/Document")


def variable(name: str, value: str, allowed: str, remedy: str, called: str) -> Refused:
    def plant(place: Place) -> None:
        place.set(**{name: value})

    return Refused(
        called,
        STATUS,
        plant,
        2,
        f"DTX_{name} is {value!r}; allowed: {allowed}",
        f"environment variable DTX_{name}",
        remedy,
    )


def environment(called: str, variables: dict[str, str], what: str, where: str, remedy: str) -> Refused:
    def plant(place: Place) -> None:
        for name, value in variables.items():
            place.patch.setenv(name, value)

    return Refused(called, STATUS, plant, 2, what, where, remedy)


def environment_file(place: Place) -> None:
    (place.directory / ".env").write_text("DTX_MODE=rehearsal\nthis is no assignment\n")


def a_file_at(place: Place, name: str, variable_name: str) -> None:
    (place.directory / name).write_text("taken")
    place.set(**{variable_name: place.directory / name})


def no_place_to_make_it(place: Place) -> None:
    """A directory that nobody can make, whoever runs the tests."""
    place.set(LAKE_URL="/sys/lake")
    place.names["lake"] = "/sys/lake"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(place: Place) -> None:
    rows = "".join(f"1001,{secrets.token_hex(500)},x\n" for _ in range(20_000))
    place.write("keyword", "customer_id,keyword,replacement\n" + rows)
    place.end_with(files_of_at_most(6 << 20))


def files_not_mounted(place: Place) -> None:
    for table in ("repo_file", "crosswalk_repo_file"):
        shutil.copy(SYSTEM.sample_dir / f"{table}.csv", place.legacy)
    place.set(FILES_URL=place.directory / "nowhere")


def files_not_there(place: Place) -> None:
    files_not_mounted(place)
    (place.directory / "nowhere").mkdir()


def documents(place: Place) -> None:
    for table in ("repo_file", *(f"crosswalk_{name}" for name in ("account", "record", "user", "repo_file"))):
        shutil.copy(SYSTEM.sample_dir / f"{table}.csv", place.legacy)


def store_that_is_a_file(place: Place) -> None:
    documents(place)
    a_file_at(place, "store", "OBJECT_STORE_URL")


def bucket_that_is_not_there(place: Place) -> None:
    place.request.getfixturevalue("s3_bucket")
    documents(place)
    place.set(OBJECT_STORE_URL="s3://no-such-bucket/files")


def wrong_key(place: Place) -> None:
    bucket = place.request.getfixturevalue("s3_bucket")
    place.patch.setenv("AWS_SECRET_ACCESS_KEY", "Wr0ngSecret")
    place.set(LAKE_URL=f"s3://{bucket}/lake")
    place.names["url"] = f"s3://{bucket}/lake"


CASES: tuple[Case, ...] = (
    variable("BATCH_ROWS", "0", "a whole number from 1 to 10000000", "unset it", "no rows in a batch"),
    variable("BATCH_ROWS", "-5", "a whole number from 1 to 10000000", "unset it", "a negative number of rows"),
    variable("BATCH_ROWS", "many", "a whole number from 1 to 10000000", "unset it", "a word where a number should be"),
    variable("VERIFY_FILES", "yes", "a whole number from 0 to 1", "unset it", "yes where 1 should be"),
    variable(
        "LEGACY_TIMEZONE",
        "America/New_Yorc",
        "an IANA time zone",
        "did you mean America/New_York",
        "an unknown time zone",
    ),
    variable("CUTOVER_AT", "tomorrow", "an ISO 8601 instant, such as", "unset it", "a cutover time that is none"),
    variable("MODE", "dress", "rehearsal or cutover", "set it to one of these", "an unknown mode"),
    variable("LEGACY_URL", "ftp://host/export", "a directory or file", "unset it", "an export with a wrong URL scheme"),
    variable("LEGACY_URL", "s3:/bucket/export", "a directory or file", "unset it", "a URL with one slash"),
    variable(
        "LEGACY_URL",
        "mysql://reader@host",
        "a directory or file",
        "name the database after the host",
        "a database URL without a database",
    ),
    variable(
        "LEGACY_URL",
        "mysql://reader@host:port/dtx",
        "a directory or file",
        "escape special characters",
        "a port that is no number",
    ),
    variable(
        "TARGET_URL",
        "mysql://loader@host/dtx2",
        "postgresql://user:password@host/database",
        "unset it",
        "a target that is not PostgreSQL",
    ),
    variable(
        "TARGET_URL",
        "loader@host/dtx2",
        "postgresql://user:password@host/database",
        "unset it",
        "a target without a scheme",
    ),
    variable(
        "FILES_URL", "gs://bucket/files", "a directory or file", "unset it", "legacy files where none can be read"
    ),
    variable("LAKE_URL", "http://host/lake", "a directory or file", "unset it", "a lake with a wrong URL scheme"),
    variable(
        "DECISIONS",
        "/nowhere/decisions.yaml",
        "a file that is there",
        "unset it",
        "a file of decisions that is not there",
    ),
    environment(
        "a variable misspelt",
        {"DTX_LEGACY_URI": "/export"},
        "DTX_LEGACY_URI means nothing, and looks like DTX_LEGACY_URL",
        "environment variable DTX_LEGACY_URI",
        "rename it to DTX_LEGACY_URL, or unset it",
    ),
    environment(
        "an environment without a file",
        {"APP_ENV": "nosuch"},
        "APP_ENV is 'nosuch', and there is no such environment file",
        "{directory}/.env.<APP_ENV>",
        "create the file (it may be empty), correct APP_ENV, or unset it",
    ),
    environment(
        "S3 keys in a URL",
        {"DTX_LEGACY_URL": "s3://key:s3cret@bucket/export"},
        "DTX_LEGACY_URL is 's3://key:***@bucket/export'",
        "environment variable DTX_LEGACY_URL",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    Refused(
        "an environment file with a bad line",
        STATUS,
        environment_file,
        2,
        "this line is not NAME=value",
        "{directory}/.env, line 2",
        "put values with special characters in single quotes",
    ),
    Refused(
        "a state directory that is a file",
        STATUS,
        partial(a_file_at, name="state", variable_name="HOME"),
        2,
        "the state directory cannot be used: File exists",
        "{directory}/state",
        "set DTX_HOME to a directory that this account may write",
    ),
    Refused(
        "files that are not where they should be",
        ("run", "--select", "+mapping/file_inventory"),
        files_not_mounted,
        1,
        "the root of the legacy files is not a directory that is there",
        "{directory}/nowhere",
        "mount it, or name another one (FILES_URL); no row was rejected for it",
        lands=True,
    ),
    Refused(
        "a root of the legacy files on which nothing is mounted",
        ("run", "--select", "+mapping/file_inventory"),
        files_not_there,
        1,
        "the root of the legacy files is empty",
        "{directory}/nowhere",
        "mount it, or name another one (FILES_URL); no row was rejected for it",
        lands=True,
    ),
    Refused(
        "an object store that is a file",
        SEND,
        store_that_is_a_file,
        1,
        "the object store cannot be used: Not a directory",
        "{directory}/store",
        "check that it is a directory, mounted, that this account may write it, and that there is room",
        lands=True,
        prepares=True,
    ),
    Refused(
        "an object store in a bucket that is not there",
        SEND,
        bucket_that_is_not_there,
        1,
        "the object store cannot be used: NoSuchBucket: The specified bucket does not exist",
        "s3://no-such-bucket/files",
        "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION, the AWS_* credentials and what quota is left",
        lands=True,
        prepares=True,
    ),
    Refused(
        "a lake that is a file",
        EXTRACT,
        partial(a_file_at, name="lake", variable_name="LAKE_URL"),
        1,
        "the lake cannot be used",
        "{directory}/lake",
        "check that the directory can be made and written, and that the disk is not full",
    ),
    Refused(
        "a lake that cannot be written",
        EXTRACT,
        no_place_to_make_it,
        1,
        "the lake cannot be used",
        "{lake}",
        "check that the directory can be made and written",
    ),
    Refused(
        "a full disk",
        EXTRACT,
        full_disk,
        1,
        "the lake cannot be written: File too large",
        "{home}/lake",
        "make room there, or give another place to the lake",
    ),
    Refused(
        "a lake on S3 with a wrong secret key",
        EXTRACT,
        wrong_key,
        1,
        "the lake cannot be used",
        "{url}",
        "check bucket, prefix, AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials",
    ),
    Refused(
        "an archive that is a file",
        ("run", "--select", "archive/keyword"),
        partial(a_file_at, name="archive", variable_name="ARCHIVE_URL"),
        1,
        "the archive cannot be used",
        "{directory}/archive",
        "check that the directory can be made and written",
    ),
)
