"""The derived layer of one run, from the queue to the indexes, as steps and commands start it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from psycopg import sql

from dtx_assets.machinery.base.errors import LoadError
from dtx_assets.machinery.base.progress import duration_text
from dtx_assets.machinery.derived.clock import Clock, SystemClock
from dtx_assets.machinery.derived.cost import PRICES, Estimate, estimate, price_of, require_accepted
from dtx_assets.machinery.derived.dify import Dify
from dtx_assets.machinery.derived.embed import Embedding, EmbeddingSummary
from dtx_assets.machinery.derived.embedder import Embedder, is_stand_in
from dtx_assets.machinery.derived.filling import Filling, Queued
from dtx_assets.machinery.derived.model import DerivedDeclaration
from dtx_assets.machinery.derived.queue import Queue, prepare_journal, to_embed
from dtx_assets.machinery.derived.schema import build_indexes, drop_for_bulk, require_parts, switch_triggers
from dtx_assets.machinery.derived.sending import Sending, SendingSummary
from dtx_assets.machinery.derived.texts import LegacyRows
from dtx_assets.machinery.postgres.connection import Connection

LONG_TEXT, TRUNCATE = "long_text", "truncate"
"""The decision over texts that are longer than a model takes, and its option to take their beginning only."""
SECONDS_BETWEEN_LINES = 10.0

Log = Callable[[str], object]
Told = Callable[[int, int], object]
"""Told the distinct texts that were answered and those there are."""


@dataclass(frozen=True)
class Derivation:
    """What a run derived."""

    queued: Queued
    expected: Estimate
    embedding: EmbeddingSummary
    dollars: float
    revived: int
    indexes: tuple[str, ...]
    model_name: str
    sending: SendingSummary | None
    """None where there is no Dify to send documents to."""


@dataclass
class Deriving:
    """Derives everything of a system: `accepted_cost` in dollars and `accepts_stand_in` are what a cutover asks for."""

    connection: Connection
    declared: DerivedDeclaration
    mappings_dir: Path
    run_id: str
    chosen: Mapping[str, str]
    legacy: LegacyRows
    embedder: Embedder
    a_minute: int | None
    concurrency: int
    log: Log
    dify: Dify | None = None
    told: Told = lambda _done, _all: None
    cutover: bool = False
    accepted_cost: float | None = None
    accepts_stand_in: bool = False
    clock: Clock = field(default_factory=SystemClock)

    def run(self, *, retry_dead: bool = False) -> Derivation:
        """Fill the queue, embed what is on it, make the indexes, enable the triggers, and send the documents.

        StructureError where the target lacks something; LoadError where a cutover did not accept what it has to, or the
        model refuses. What was committed stays, and the next run goes on.
        """
        require_parts(self.connection, self.declared)
        prepare_journal(self.connection)
        if self.cutover and is_stand_in(self.embedder.model_name) and not self.accepts_stand_in:
            raise LoadError(
                f"{self.embedder.model_name} only stands in for a model: no cutover is done with it",
                where="check embedding_model",
                remedy="name a real embedder in the environment, or accept the check embedding_model by name",
            )
        price = price_of(self.embedder.model_name, self.mappings_dir / PRICES)
        queue = Queue(self.connection, self.declared, self.run_id, sends=self.dify is not None)
        # From now on what the application writes is queued; what it wrote before, the filling finds.
        switch_triggers(self.connection, self.declared, on=True)
        queued = Filling(queue).fill(self.chosen, self.legacy, (self.embedder.model_name, self.embedder.model_version))
        revived = queue.retry_dead() if retry_dead else 0
        expected = estimate(queued, price, self.a_minute)
        self.log(f"to be embedded by {self.embedder.model_name}: {expected}")
        if self.cutover:
            require_accepted(expected, self.accepted_cost)
        drop_for_bulk(self.connection, self.declared, self._waiting(queue))
        progress = _Progress(expected, price, self.clock, self.log, self.told)
        embedding = Embedding(
            queue,
            self.embedder,
            self.chosen,
            self.legacy,
            self.clock,
            concurrency=self.concurrency,
            a_minute=self.a_minute,
            truncate=self.chosen.get(LONG_TEXT) == TRUNCATE,
            progress=progress,
            waiting=self.log,
        )
        try:
            summary = embedding.run()
        finally:
            indexes = build_indexes(self.connection, self.declared)
        sending = None
        if self.dify is not None:
            sending = Sending(queue, self.dify, self.clock, waiting=self.log).run()
        elif self.declared.knowledge:
            self.log("nothing is sent to Dify: no address of it is given, and all documents wait")
        return Derivation(
            queued,
            expected,
            summary,
            summary.tokens / 1000 * price,
            revived,
            tuple(indexes),
            self.embedder.model_name,
            sending,
        )

    def _waiting(self, queue: Queue) -> dict[str, int]:
        """The rows of each entity that are to be embedded."""
        found = self.connection.execute(
            sql.SQL(
                "SELECT source_table, count(*) FROM {} AS queued WHERE {} AND status IN ('pending', 'processing')"
                " GROUP BY 1"
            ).format(queue.table, to_embed("queued"))
        )
        return {str(table): int(count) for table, count in found}


class _Progress:
    """Says how far the embedding is: texts a second, time left, cost so far."""

    def __init__(self, expected: Estimate, price: float, clock: Clock, log: Log, told: Told) -> None:
        self.expected, self.price, self.clock, self.log, self.told = expected, price, clock, log, told
        self.started = self.said = clock.now()

    def __call__(self, asked: int, tokens: int) -> None:
        self.told(asked, max(asked, self.expected.distinct))
        now = self.clock.now()
        if (now - self.said).total_seconds() >= SECONDS_BETWEEN_LINES:
            self.said = now
            self.log(progress_line(asked, self.expected.distinct, self.started, now, tokens / 1000 * self.price))


def progress_line(asked: int, of: int, started: datetime, now: datetime, dollars: float) -> str:
    """`1,200 of 4,000 texts, 120 texts/s, 23 s left, $0.0021 so far`."""
    seconds = (now - started).total_seconds()
    speed = asked / seconds if seconds > 0 else 0.0
    left = f", {duration_text((of - asked) / speed)} left" if speed and of > asked else ""
    return f"{asked:,} of {max(asked, of):,} texts, {speed:,.0f} texts/s{left}, ${dollars:,.4f} so far"
