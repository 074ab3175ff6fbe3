"""The embedding of all texts that are on the queue: leased, asked for in several threads, written as answers come.

What a text is asked of is an `Embedder`; what went wrong with it is counted on the queue, so that a kill loses the
calls in flight and nothing else.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import polars as pl

from dtx_assets.machinery.derived.clock import Clock, Rate
from dtx_assets.machinery.derived.embedder import (
    Answer,
    Embedded,
    Embedder,
    EmbeddingStopped,
    Refused,
    TryAgain,
    embed_text,
)
from dtx_assets.machinery.derived.queue import LEASE, Lease, Queue, to_embed, to_remove
from dtx_assets.machinery.derived.results import Results
from dtx_assets.machinery.derived.texts import HASH, SOURCE_ID, TEXT, LegacyRows, entity_texts

TEXTS_A_LEASE = 1_000
DEAD_IN_A_ROW = 20
SECONDS_BETWEEN_LOOKS = 5.0
"""How often the lease is looked at while calls are in flight, and a queue that others work on too."""

Progress = Callable[[int, int], object]
"""Told the distinct texts that were answered so far, and their tokens."""


@dataclass
class EmbeddingSummary:
    """What a run of the queue did, in rows of the queue but for `asked`, `truncated` and `tokens` of distinct texts."""

    embedded: int = 0
    adopted: int = 0
    removed: int = 0
    dead: int = 0
    tried_again: int = 0
    asked: int = 0
    truncated: int = 0
    tokens: int = 0


@dataclass
class Embedding:
    """Works through a queue with an embedder until nothing is left that can be had."""

    queue: Queue
    embedder: Embedder
    chosen: Mapping[str, str]
    legacy: LegacyRows
    clock: Clock
    concurrency: int = 8
    a_minute: int | None = None
    """Requests; None is no bound."""
    truncate: bool = False
    chance: Callable[[], float] = random.random
    progress: Progress = lambda _asked, _tokens: None
    waiting: Callable[[str], object] = lambda _words: None
    summary: EmbeddingSummary = field(default_factory=EmbeddingSummary)
    _dead_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.results = Results(self.queue, self.embedder.model_name, self.embedder.model_version)
        self._rate = Rate(self.a_minute, self.clock)

    def run(self) -> EmbeddingSummary:
        """EmbeddingStopped where the model refuses everything, or text after text."""
        self._remove()
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="embed") as pool:
            while True:
                lease = self.queue.lease(to_embed, self.clock.now(), self._texts_a_lease)
                if lease is not None:
                    self._work_off(lease, pool)
                elif not self._wait_for_more():
                    return self.summary

    @property
    def _texts_a_lease(self) -> int:
        """So many that they are asked for well within a lease."""
        if self.a_minute is None:
            return TEXTS_A_LEASE
        return min(TEXTS_A_LEASE, max(1, int(self.a_minute * LEASE.total_seconds() / 60 / 4)))

    def _wait_for_more(self) -> bool:
        def tell(seconds: float) -> None:
            self.waiting(f"texts are to be tried again, or another process has them: waiting for {seconds:.0f} s")

        return self.queue.wait_for_turn(to_embed, self.clock, tell, at_least=SECONDS_BETWEEN_LOOKS)

    def _remove(self) -> None:
        while lease := self.queue.lease(to_remove, self.clock.now(), TEXTS_A_LEASE):
            self.summary.removed += self.results.remove(lease)

    # --- a lease ---

    def _work_off(self, lease: Lease, pool: ThreadPoolExecutor) -> None:
        texts: dict[str, str] = {}
        running: dict[Future[Embedded], str] = {}
        try:
            lease, texts = self._texts(lease)
            adopted = self.results.adopt_known(lease)
            self.summary.adopted += lease.rows.filter(pl.col(HASH).is_in(list(adopted))).height
            running = {
                pool.submit(self._embed, text): hashed for hashed, text in texts.items() if hashed not in adopted
            }
            for done in self._answers(running):
                lease = self.queue.keep(lease, self.clock.now())
                self._settle(lease, done)
        finally:
            for future in running:
                future.cancel()
            # Calls in flight are waited for by the pool; what nobody answered is another run's.
            self.queue.release(lease)

    def _texts(self, lease: Lease) -> tuple[Lease, dict[str, str]]:
        """The texts of a lease by hash, as they are now; rows whose text changed since are given back to be queued."""
        texts: dict[str, str] = {}
        current: list[pl.DataFrame] = []
        for name, entity in self.queue.declared.entities.items():
            rows = lease.rows.filter(pl.col("source_table") == name)
            if not rows.height:
                continue
            for page in entity_texts(
                self.queue.connection, entity, self.chosen, self.legacy, rows.get_column(SOURCE_ID).to_list()
            ):
                same = rows.join(page, on=[SOURCE_ID, HASH], how="inner")
                texts |= dict(same.select(HASH, TEXT).iter_rows())
                current.append(same.select(lease.rows.columns))
        kept = pl.concat(current) if current else lease.rows.clear()
        self.queue.give_back(lease, lease.rows.join(kept, on="id", how="anti").get_column("id").to_list())
        return Lease(lease.until, kept), texts

    def _embed(self, text: str) -> Embedded:
        def ask(piece: str) -> Answer:
            self._rate.pass_one()
            return self.embedder.embed(piece)

        return embed_text(ask, text, truncate=self.truncate)

    def _answers(self, running: Mapping[Future[Embedded], str]) -> Iterator[dict[str, Future[Embedded]]]:
        """What was answered since the last look, by hash; nothing at times, so that a lease is renewed."""
        left = set(running)
        while left:
            done, left = wait(left, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
            yield {running[future]: future for future in done}

    def _settle(self, lease: Lease, done: Mapping[str, Future[Embedded]]) -> None:
        """Write what was answered; count what was not. What stops everything is raised after that."""
        embedded: dict[str, Embedded] = {}
        failed: dict[str, Exception] = {}
        stopped: EmbeddingStopped | None = None
        for hashed, future in done.items():
            try:
                embedded[hashed] = future.result()
            except EmbeddingStopped as error:
                stopped = error
            except (TryAgain, Refused) as error:
                failed[hashed] = error
        if embedded:
            self.summary.embedded += self.results.write(lease, embedded)
            self.summary.asked += len(embedded)
            self.summary.truncated += sum(text.truncated for text in embedded.values())
            self.summary.tokens += sum(chunk.tokens or 0 for text in embedded.values() for chunk in text.chunks)
            self.progress(self.summary.asked, self.summary.tokens)
        for hashed, failure in failed.items():
            self._count_failure(lease, hashed, failure)
        if embedded:
            # Nobody knows in which order answers of one look came.
            self._dead_in_a_row = 0
        if stopped is not None:
            raise stopped
        if self._dead_in_a_row >= DEAD_IN_A_ROW:
            raise EmbeddingStopped(
                f"{self._dead_in_a_row} texts in a row are dead; the last one: {next(reversed(failed.values()))}",
                where=f"the queue {self.queue.declared.queue}, model {self.embedder.model_name}",
                remedy="see error_message there and mend what is wrong, then `dtx embed --retry-dead`",
            )

    def _count_failure(self, lease: Lease, hashed: str, error: Exception) -> None:
        ids = lease.rows.filter(pl.col(HASH) == hashed).get_column("id").to_list()
        died = self.queue.fail(lease, ids, error, self.clock.now(), self.chance)
        self.summary.dead += died
        self.summary.tried_again += len(ids) - died
        self._dead_in_a_row += 1 if died else 0
