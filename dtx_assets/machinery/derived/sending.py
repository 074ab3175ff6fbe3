"""The documents that are on the queue are sent to knowledge bases, or taken away, whatever the service says to it.

Before a document is made, it is noted that this is tried: whoever comes after a kill, or an answer that was lost, looks
for it by its name first. So each text is one document, however often a run dies.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from psycopg import sql

from dtx_assets.machinery.base.failpoints import reach
from dtx_assets.machinery.derived.clock import Clock, wait_before_try
from dtx_assets.machinery.derived.dify import Dify, NotThere, SendingStopped, Sent, State, StillIndexed
from dtx_assets.machinery.derived.documents import Document, Documents
from dtx_assets.machinery.derived.embedder import Refused, TryAgain
from dtx_assets.machinery.derived.queue import Lease, Queue, to_send

DOCUMENTS_A_LEASE = 100
CONCURRENCY = 4
DEAD_IN_A_ROW = 20
TRIES = 5
SECONDS_BETWEEN_LOOKS = 2.0
LOOKS_A_DOCUMENT = 300
"""So often the indexing of a document is looked at before that counts as an attempt that failed."""

Answer = TypeVar("Answer")
Working = Mapping[Future[Sent | None], str]


@dataclass
class SendingSummary:
    """What a run did to documents."""

    sent: int = 0
    removed: int = 0
    dead: int = 0
    tried_again: int = 0


@dataclass
class Sending:
    """Works through the queue until no document is left that can be sent or taken away."""

    queue: Queue
    dify: Dify
    clock: Clock
    concurrency: int = CONCURRENCY
    chance: Callable[[], float] = random.random
    waiting: Callable[[str], object] = lambda _words: None
    summary: SendingSummary = field(default_factory=SendingSummary)
    _bases: dict[str, str] = field(default_factory=dict)
    _dead_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.documents = Documents(self.queue)

    def run(self) -> SendingSummary:
        """SendingStopped where the service refuses everything, or document after document."""
        try:
            with ThreadPoolExecutor(self.concurrency, thread_name_prefix="send") as pool:
                while True:
                    lease = self.queue.lease(to_send, self.clock.now(), DOCUMENTS_A_LEASE)
                    if lease is not None:
                        self._work_off(lease, pool)
                    elif not self._wait_for_more():
                        return self.summary
        finally:
            self.documents.tell()

    def _wait_for_more(self) -> bool:
        def tell(seconds: float) -> None:
            self.waiting(f"documents are to be tried again, or another process has them: waiting for {seconds:.0f} s")

        return self.queue.wait_for_turn(to_send, self.clock, tell, at_least=SECONDS_BETWEEN_LOOKS)

    # --- a lease ---

    def _work_off(self, lease: Lease, pool: ThreadPoolExecutor) -> None:
        try:
            given, gone = self._open(lease)
            for document in [*given.values(), *gone.values()]:
                self._find_base(document)
            running: dict[Future[Sent | None], str] = {
                pool.submit(self._send, document): row for row, document in given.items()
            } | {pool.submit(self._remove, document): row for row, document in gone.items()}
            indexed: dict[str, Sent] = {}
            try:
                for row, sent in self._answers(lease, running, {**given, **gone}):
                    if sent is None:
                        self._removed(lease, row, gone[row])
                    else:
                        reach("derived.document_sent")
                        self.documents.has(given[row], sent)
                        indexed[row] = sent
                    lease = self.queue.keep(lease, self.clock.now())
            finally:
                for future in running:
                    future.cancel()
            self._wait_until_indexed(lease, given, indexed, pool)
        finally:
            self.queue.release(lease)

    def _open(self, lease: Lease) -> tuple[dict[str, Document], dict[str, Document]]:
        """The documents of a lease by row of the queue: those to be sent, which is noted, and those to be removed."""
        given: dict[str, Document] = {}
        gone: dict[str, Document] = {}
        changed: list[str] = []
        nothing_left: list[str] = []
        for [table], rows in lease.rows.group_by("source_table"):
            documents = self.documents.of(str(table), rows.get_column("source_id").to_list())
            for row, source, hashed, operation in rows.select(
                "id", "source_id", "content_hash", "operation"
            ).iter_rows():
                document = documents.get(source)
                if operation == "delete":
                    if document is None:
                        nothing_left.append(row)
                    else:
                        gone[row] = document
                elif document is None or document.content_hash != hashed:
                    changed.append(row)
                else:
                    given[row] = document
        with self.queue.connection.transaction():
            self.documents.try_all([each.id for each in given.values() if each.is_there is None])
            self._complete(self.queue.own(lease, nothing_left))
            self.queue.give_back(lease, changed)
        return given, gone

    def _find_base(self, document: Document) -> None:
        """Make the knowledge base of a document, or find the one of its name."""
        if document.base in self._bases:
            return
        name, known = self.documents.knowledge_base(document.base)
        knowledge = self.queue.declared.knowledge
        assert knowledge is not None
        if known is None:
            known = tried_again(lambda: self.dify.base_called(name, knowledge), self.clock, self.dify.url, self.chance)
            reach("derived.base_made")
            self.documents.know(document.base, known)
        self._bases[document.base] = known

    def _send(self, document: Document) -> Sent | None:
        base = self._bases[document.base]
        called = self.queue.declared.name_of_base(document.name.partition("/")[0])
        return deliver(self.dify, base, document, self.clock, missing=base_is_missing(self.dify, base, called))

    def _remove(self, document: Document) -> None:
        take_away(self.dify, self._bases[document.base], document, self.clock)

    def _answers(
        self, lease: Lease, running: Working, documents: Mapping[str, Document]
    ) -> Iterator[tuple[str, Sent | None]]:
        """What was answered, by row of the queue; what was not is counted. What stops everything comes last."""
        left = set(running)
        stopped: SendingStopped | None = None
        while left:
            done, left = wait(left, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    yield running[future], future.result()
                    self._dead_in_a_row = 0
                except SendingStopped as error:
                    stopped = error
                except (TryAgain, Refused) as error:
                    self._count_failure(lease, running[future], documents[running[future]], error)
            if stopped is not None:
                for future in left:
                    future.cancel()
                left = {future for future in left if not future.cancelled()}
        if stopped is not None:
            raise stopped

    def _wait_until_indexed(
        self, lease: Lease, given: Mapping[str, Document], indexed: dict[str, Sent], pool: ThreadPoolExecutor
    ) -> None:
        for look in range(LOOKS_A_DOCUMENT):
            if not indexed:
                return
            if look:
                self.clock.sleep(SECONDS_BETWEEN_LOOKS)
            lease = self.queue.keep(lease, self.clock.now())
            asked = {pool.submit(self._state, given[row], sent): row for row, sent in indexed.items()}
            wait(asked)
            completed = []
            for future, row in asked.items():
                try:
                    state = future.result()
                except (TryAgain, Refused):
                    # Nobody knows more than before; the next look may tell.
                    continue
                except NotThere:
                    # Somebody took it away.
                    state = "error"
                if state == "completed":
                    completed.append(row)
                elif state in ("error", "paused"):
                    self._not_indexed(lease, row, given[row], state)
                if state != "indexing":
                    del indexed[row]
            self._indexed(lease, given, completed)
        for row in indexed:
            self._count_failure(lease, row, given[row], TryAgain("Dify has not indexed the document in time"))

    def _state(self, document: Document, sent: Sent) -> State:
        return self.dify.state(self._bases[document.base], document.name, sent)

    def _indexed(self, lease: Lease, given: Mapping[str, Document], rows: list[str]) -> None:
        if not rows:
            return
        with self.queue.connection.transaction():
            held = self.queue.own(lease, rows)
            self.documents.finish([given[row].id for row in held])
            self._complete(held)
            reach("derived.document_before_commit")
        self.summary.sent += len(held)

    def _removed(self, lease: Lease, row: str, document: Document) -> None:
        reach("derived.document_removed")
        with self.queue.connection.transaction():
            self.documents.forget([document.id])
            self._complete(self.queue.own(lease, [row]))
        self.summary.removed += 1

    def _not_indexed(self, lease: Lease, row: str, document: Document, state: State) -> None:
        if state == "paused":
            words = "the indexing is paused in Dify: go on with it there, then `dtx embed --retry-dead`"
            self._count_failure(lease, row, document, Refused(words), "paused")
        else:
            # It is taken away and made anew.
            self._count_failure(lease, row, document, TryAgain("Dify could not index the document"), "error")

    def _count_failure(
        self, lease: Lease, row: str, document: Document, error: Exception, status: str | None = None
    ) -> None:
        """Count an attempt; `status` is that of the document, where it changed."""
        self.documents.fail(document.id, str(error), status)
        died = self.queue.fail(lease, [row], error, self.clock.now(), self.chance)
        self.summary.dead += died
        self.summary.tried_again += 1 - died
        self._dead_in_a_row += died
        if self._dead_in_a_row >= DEAD_IN_A_ROW:
            raise SendingStopped(
                f"{self._dead_in_a_row} documents in a row are dead; the last one: {error}",
                where=f"the queue {self.queue.declared.queue}, {self.dify.url}",
                remedy="see error_message there and mend what is wrong, then `dtx embed --retry-dead`",
            )

    def _complete(self, ids: list[str]) -> None:
        self.queue.connection.execute(
            sql.SQL(
                "UPDATE {} SET dify_completed = true, status = 'completed', leased_until = NULL, not_before = NULL,"
                " error_message = NULL, attempts = 0, processed_at = clock_timestamp() WHERE id = ANY (%s::uuid[])"
            ).format(self.queue.table),
            [ids],
        )


# --- one document, over HTTP alone ------------------------------------------------------------------------------------


def deliver(dify: Dify, base: str, document: Document, clock: Clock, *, missing: Callable[[], SendingStopped]) -> Sent:
    """Let Dify have the text of a document once, whatever an earlier try left there."""
    if there := document.is_there:
        return there
    known = document.document_id
    try:
        if known is not None and document.failed:
            _when_indexed(lambda: dify.delete(base, known), clock)
        elif known is not None:
            return _when_indexed(lambda: dify.update(base, known, document.name, document.text), clock)
    except NotThere:
        pass
    try:
        if document.tried is not None and (found := _only(dify, base, document, clock)):
            if document.tried == document.content_hash:
                return found
            return _when_indexed(lambda: dify.update(base, found.document_id, document.name, document.text), clock)
        return dify.create(base, document.name, document.text)
    except NotThere:
        raise missing() from None


def take_away(dify: Dify, base: str, document: Document, clock: Clock) -> None:
    """Take a document away, also one that an earlier try may have left."""
    if document.document_id is not None:
        _remove(dify, base, document.document_id, clock)
    elif document.tried is not None:
        try:
            found = dify.called(base, document.name)
        except NotThere:
            return
        for each in found:
            _remove(dify, base, each.document_id, clock)


def tried_again(
    call: Callable[[], Answer], clock: Clock, where: str, chance: Callable[[], float] = random.random
) -> Answer:
    """What a call gives that nothing can go on without; SendingStopped where it does not succeed at last."""
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except TryAgain as error:
            failed: Exception = error
            if attempt < TRIES:
                clock.sleep(wait_before_try(attempt, chance).total_seconds())
        except Refused as error:
            failed = error
            break
    raise SendingStopped(
        f"Dify does not do what has to be done first: {failed}",
        where=where,
        remedy="see what it says to that, then run again",
    )


def base_is_missing(dify: Dify, base: str, name: str) -> Callable[[], SendingStopped]:
    return lambda: SendingStopped(
        f"the knowledge base {name!r} ({base}) is not in Dify any more",
        where=dify.url,
        remedy="set dify_kb_id of its row to NULL, and dify_document_id of its documents: the next run makes them anew",
    )


def _only(dify: Dify, base: str, document: Document, clock: Clock) -> Sent | None:
    """The one document of this name: those that Dify could not index are taken away, and others than the first."""
    found = dify.called(base, document.name)
    kept = next((each for each in found if each.state != "error"), None)
    for each in found:
        if each is not kept:
            _remove(dify, base, each.document_id, clock)
    return kept


def _remove(dify: Dify, base: str, document_id: str, clock: Clock) -> None:
    _when_indexed(lambda: dify.delete(base, document_id), clock)


def _when_indexed(change: Callable[[], Answer], clock: Clock) -> Answer:
    """Change a document, after its indexing where that is refused before."""
    for _ in range(LOOKS_A_DOCUMENT):
        try:
            return change()
        except StillIndexed:
            clock.sleep(SECONDS_BETWEEN_LOOKS)
    raise TryAgain("Dify has not indexed the document in time")
