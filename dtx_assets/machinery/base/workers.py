"""By how many processes a run is done: in this one, in one for each step, or by workers that a broker hands steps to.

What the workers do is `dagster.worker_steps`; what keeps a run on one machine is `run.one_machine`. Nothing heavy is
imported: the parent of workers must stay small, and must not have Polars when it forks.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, get_args
from urllib.parse import urlsplit

from dtx_assets.machinery.base.errors import ConfigurationError
from dtx_assets.machinery.base.variable import Variable

Executor = Literal["in_process", "multiprocess", "celery"]
EVERYTHING = "this-machine"
"""Stands for all places of a machine, where all workers are on it."""
LEAST_SECONDS, MOST_SECONDS = 15, 86_400
"""Of news of a step: its process imports the code before there is any."""
DEFAULT_SECONDS = 60
DEFAULT_SHARD_ROWS, MOST_SHARD_ROWS = 2_000_000, 1_000_000_000
DEFAULT_SHARD_FILES = 1_000_000
MOST_EXTRACT_CONNECTIONS = 8

WORKER_VARIABLES = {
    "EXECUTOR": Variable(
        "what does the steps of a run: its own process, a process for each, or workers (docs/scale.md)",
        "in_process",
        "in_process, multiprocess or celery",
    ),
    "BROKER_URL": Variable(
        "RabbitMQ, where workers do the steps",
        "none",
        "amqp://user:password@host/vhost, or amqps://…",
    ),
    "SHARED": Variable(
        "what all workers have in common, though it looks like one machine's",
        "nothing",
        f"directories with commas between, or {EVERYTHING} where all workers are on one",
    ),
    "WORKER_SECONDS": Variable(
        "how long a run goes on without a broker, a worker, or news of a step that nobody does",
        str(DEFAULT_SECONDS),
        f"a whole number from {LEAST_SECONDS} to {MOST_SECONDS}",
    ),
    "SHARD_ROWS": Variable(
        "legacy rows that one step prepares; of more, several do at once (docs/scale.md)",
        f"{DEFAULT_SHARD_ROWS} where several processes do the steps, else all",
        f"a whole number up to {MOST_SHARD_ROWS}; 0 for all",
    ),
    "SHARD_FILES": Variable(
        "legacy files that one step looks at or sends; of more, several do at once (docs/scale.md)",
        f"{DEFAULT_SHARD_FILES} where several processes do the steps, else all",
        f"a whole number up to {MOST_SHARD_ROWS}; 0 for all",
    ),
    "EXTRACT_CONNECTIONS": Variable(
        "connections over which ranges of one legacy table in PostgreSQL are read at once (docs/scale.md)",
        "1",
        f"a whole number from 1 to {MOST_EXTRACT_CONNECTIONS}",
    ),
}
"""By names without the system's prefix."""


class Reader(Protocol):
    """What `settings` reads variables of a system with."""

    @property
    def system(self) -> str: ...

    @property
    def environ(self) -> Mapping[str, str]: ...

    def value(self, name: str) -> str | None: ...

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str: ...

    def whole_number(self, name: str, least: int, most: int) -> int | None: ...

    def fail(self, name: str, remedy: str | None = None) -> object: ...


@dataclass(frozen=True, repr=False)
class Workers:
    """Who does the steps of a run. A queue is of one system and environment: no worker of another takes a step."""

    executor: Executor = "in_process"
    broker_url: str | None = None
    shared: tuple[str, ...] = ()
    seconds: int = DEFAULT_SECONDS
    queue: str = field(default="", compare=False)
    shard_rows: int = 0
    """Legacy rows that one step prepares at most; 0: all, and no graph has steps for shards."""
    shard_files: int = 0
    """The same of legacy files that one step looks at, or sends."""
    extract_connections: int = field(default=1, compare=False)
    """Over how many of them the process that extracts reads one table."""

    @property
    def are_several(self) -> bool:
        """Whether steps are done by other processes than the one of the run."""
        return self.executor != "in_process"

    def have(self, directory: str) -> bool:
        """Whether all of them see a directory under this path."""
        return self.are_on_one_machine or any(Path(directory).is_relative_to(shared) for shared in self.shared)

    @property
    def are_on_one_machine(self) -> bool:
        return self.executor == "multiprocess" or EVERYTHING in self.shared


def read_workers(read: Reader) -> Workers:
    """What the variables of a system say; ConfigurationError, naming the variable, for what makes no sense."""
    names: dict[str, Executor] = {name: name for name in get_args(Executor)}
    executor = names[read.one_of("EXECUTOR", tuple(names))]
    broker = read.value("BROKER_URL")
    if broker and not _is_of_rabbitmq(broker):
        read.fail("BROKER_URL")
    if executor == "celery" and not broker:
        read.fail("BROKER_URL", f"{read.system.upper()}_EXECUTOR is celery: name the RabbitMQ that hands steps out")
    shared = tuple(part.strip() for part in (read.value("SHARED") or "").split(",") if part.strip())
    if not all(part == EVERYTHING or part.startswith("/") for part in shared):
        read.fail("SHARED")
    environment = re.sub(r"[^\w.-]", "_", read.environ.get("APP_ENV") or "development")
    seconds = read.whole_number("WORKER_SECONDS", LEAST_SECONDS, MOST_SECONDS) or DEFAULT_SECONDS
    sizes = {"SHARD_ROWS": DEFAULT_SHARD_ROWS, "SHARD_FILES": DEFAULT_SHARD_FILES}
    for name, usual in sizes.items():
        asked = read.whole_number(name, 0, MOST_SHARD_ROWS)
        sizes[name] = asked if asked is not None else 0 if executor == "in_process" else usual
    return Workers(
        executor,
        broker,
        shared,
        seconds,
        f"{read.system}-{environment}",
        shard_rows=sizes["SHARD_ROWS"],
        shard_files=sizes["SHARD_FILES"],
        extract_connections=read.whole_number("EXTRACT_CONNECTIONS", 1, MOST_EXTRACT_CONNECTIONS) or 1,
    )


def require_celery(system: str) -> None:
    """ConfigurationError where the extra that workers need is not installed."""
    if find_spec("celery") is None:
        raise ConfigurationError(
            "Celery is not installed",
            where=f"environment variable {system.upper()}_EXECUTOR",
            remedy='pip install "dtx-assets[celery]"',
        )


def _is_of_rabbitmq(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # What is no number there is told by its being read: a password with a sign that has a meaning in a URL.
        return parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
