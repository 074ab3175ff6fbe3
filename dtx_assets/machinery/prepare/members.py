"""Junctions: the pairs that members of arrays make, and what becomes of each document that has such an array.

Documents come in batches by their own keys. The pairs go on in parts by the id in the first column of the junction, so
that what both sides say of a pair meets, however many there are. What members say is `transforms.members`.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import polars as pl

from dtx_assets.machinery.base.private import make_state_directory
from dtx_assets.machinery.base.scratch import SCRATCH
from dtx_assets.machinery.mapping.conditions import drop_rules, is_active
from dtx_assets.machinery.mapping.execute import PROBLEM, RowProblem, add_problems
from dtx_assets.machinery.mapping.model import Members, SourceMapping
from dtx_assets.machinery.model.legacy import ColumnKind
from dtx_assets.machinery.model.target import polars_type
from dtx_assets.machinery.prepare.assess import LINKS_SCHEMA, finish_source, rejected_rows
from dtx_assets.machinery.prepare.batches import text_digest
from dtx_assets.machinery.prepare.buckets import BUCKETS, batch_count, bucket_of, bucket_range
from dtx_assets.machinery.sources.landing import UNREADABLE
from dtx_assets.machinery.system.flow import FlowInputs, Outcome, Prepared
from dtx_assets.machinery.transforms.columns import TransformContext, canonical_id, shown
from dtx_assets.machinery.transforms.members import read_members

ALONE, NULL_MEMBER, DUPLICATE, FROM_TEXT, MERGED = (
    "scalar_to_array",
    "null_member",
    "duplicate_member",
    "id_from_text",
    "merged_reference",
)


def members_run(model: str) -> Callable[[FlowInputs], Outcome]:
    """What the flow of a junction runs: its prepared rows are candidates, one a side and pair, for `united_pairs`."""
    return partial(_run, model)


def _run(model: str, inputs: FlowInputs) -> Outcome:
    outcome = Outcome()
    sources = inputs.system.mappings.for_target(model).sources
    chosen = inputs.context.decisions
    made = [
        _Side(inputs, model, source, entry).pairs(outcome)
        for source, entry in sources.items()
        if is_active(entry.when, chosen)
    ]
    outcome.prepared[model] = Prepared(pl.concat(made), pl.DataFrame(schema=LINKS_SCHEMA), is_fitted=True)
    return outcome


class _Side:
    """The documents of one batch that name pairs of a junction from one side."""

    def __init__(self, inputs: FlowInputs, model: str, source: str, entry: SourceMapping) -> None:
        assert entry.members
        self.inputs, self.model, self.source, self.entry = inputs, model, source, entry
        self.spec: Members = entry.members
        self.documents = inputs.legacy[source]
        self.target = inputs.system.target(model)

    def pairs(self, outcome: Outcome) -> pl.DataFrame:
        """Books what becomes of the documents; gives the pairs of those that are migrated."""
        members = read_members(self.documents.get_column(self.spec.field), self._kind(self.spec.names))
        numbers = self.documents.get_column("_row").gather(members.get_column("_place"))
        members = members.with_columns(numbers.alias("_row"))
        own = resolved(self.inputs.context, self.crosswalk, self._own_ids())
        documents = self._judged(members, own)
        sound = documents.filter(pl.col("_rule").is_null() & (pl.col("_problems").list.len() == 0)).select("_row")
        members = self._named(members.join(sound, on="_row", how="semi", maintain_order="left"))
        usable, bad = members.filter("usable"), members.filter("is_bad")
        wrong = bad.select("_row", self._problem(members.schema).alias("_problem"))
        none_left = wrong.join(usable, on="_row", how="anti").group_by("_row").agg(pl.col("_problem").alias("_reasons"))
        documents = (
            documents.join(none_left, on="_row", how="left", maintain_order="left")
            .join(_coerced(members), on="_row", how="left", maintain_order="left")
            .with_columns(
                pl.coalesce("_reasons", "_problems").alias("_problems"),
                pl.col("_coercions").fill_null(pl.lit([], pl.List(pl.String))),
            )
            .drop("_reasons")
        )
        migrated = finish_source(outcome, self.inputs, self.source, self.model, documents)
        self._list_bad_members(outcome, wrong, migrated.select("_row"))
        return self._candidates(usable.filter(~pl.col("is_again")), migrated, own)

    @property
    def crosswalk(self) -> str:
        """That of the documents' own ids."""
        return self.spec.of or self.source

    def _kind(self, crosswalk: str) -> ColumnKind:
        return self.inputs.context.id_kinds.get(crosswalk, "object_id")

    def _own_ids(self) -> pl.Series:
        return self.documents.select(canonical_id(pl.col(self.spec.key), self._kind(self.crosswalk))).to_series()

    # --- documents ----------------------------------------------------------------------------------------------------

    def _judged(self, members: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
        """The documents with what drops them (`_rule`), or rejects them whatever their members say (`_problems`)."""
        said = members.filter(~pl.col("is_nothing")).get_column("_row").unique()
        documents = self.documents.with_columns(self._own_ids().alias("_own"))
        facts = own.select(pl.col("source_id").alias("_own"), "fate", "is_there")
        documents = documents.join(facts, on="_own", how="left", maintain_order="left")
        unreadable = pl.col(UNREADABLE) if UNREADABLE in documents.columns else pl.lit(None, pl.String)
        rules = [
            pl.when(pl.col("_key_fate") == "identical").then(pl.lit("identical")),
            pl.when(unreadable.is_null() & ~pl.col("_row").is_in(said.implode())).then(pl.lit("empty")),
        ]
        for rule, when in drop_rules(self.entry.drop, self.inputs.context.decisions).items():
            rules.append(pl.when(unreadable.is_null() & when).then(pl.lit(rule)))
        documents = documents.with_columns(pl.coalesce(rules).alias("_rule"))
        goes_on, no_id = unreadable.is_null() & pl.col("_rule").is_null(), pl.col("_own").is_null()
        beaten = (pl.col("_key_fate") == "duplicate_key").fill_null(False)
        is_there = pl.col("is_there").fill_null(False)
        gone = pl.format("its own row is not migrated: it is {}", pl.col("fate").fill_null("not there"))
        later = "the same key occurs again in a later document with other content; the later one counts"
        key = self.spec.key
        return add_problems(
            documents,
            RowProblem(unreadable.is_not_null(), "unparseable", "document", unreadable),
            RowProblem(goes_on & no_id, "unparseable", key, pl.format("{} is no id", shown(pl.col(key)))),
            RowProblem(goes_on & ~no_id & beaten, "duplicate_key", key, later),
            RowProblem(goes_on & ~no_id & ~beaten & ~is_there, "orphan_reference", key, gone),
        ).drop("_own", "fate", "is_there")

    def _list_bad_members(self, outcome: Outcome, wrong: pl.DataFrame, migrated: pl.DataFrame) -> None:
        """Each bad member of a document that is migrated is an entry of its own."""
        listed = wrong.join(migrated, on="_row", how="semi", maintain_order="left")
        if listed.height:
            told = listed.select("_row", pl.concat_list("_problem").alias("_problems"))
            whole = told.join(self.documents, on="_row", maintain_order="left")
            outcome.reject(self.model, rejected_rows(self.inputs, self.source, whole, partial=True))

    # --- members ------------------------------------------------------------------------------------------------------

    def _named(self, members: pl.DataFrame) -> pl.DataFrame:
        """Members with what each of them names, and whether it is `usable`, `is_bad`, or there before (`is_again`)."""
        named = resolved(self.inputs.context, self.spec.names, members.get_column("id"))
        found = members.join(named, left_on="id", right_on="source_id", how="left", maintain_order="left")
        found = found.with_columns(pl.col("is_there").fill_null(False).alias("usable"))
        again = pl.col("usable") & ~pl.struct("_row", "usable", "target_id").is_first_distinct()
        return found.with_columns(
            (~pl.col("usable") & ~pl.col("is_nothing")).alias("is_bad"),
            again.alias("is_again"),
            (pl.int_range(pl.len()).over("_row") + 1).alias("position"),
        )

    def _problem(self, schema: pl.Schema) -> pl.Expr:
        """Why a member is bad, as one of `_problems`."""
        no_id = pl.col("id").is_null()
        names = self.spec.names
        what = (
            pl.when(no_id)
            .then(pl.format("member {} is no id: {}", "position", "shown"))
            .otherwise(
                pl.format(
                    f"member {{}} names {{}} of {names}, which is {{}}",
                    "position",
                    "id",
                    pl.col("fate").fill_null("not there"),
                )
            )
        )
        reason = pl.when(no_id).then(pl.lit("unparseable")).otherwise(pl.lit("orphan_reference"))
        return pl.struct(reason.alias("reason"), pl.lit(self.spec.field).alias("column"), what.alias("detail")).cast(
            PROBLEM
        )

    def _candidates(self, members: pl.DataFrame, migrated: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
        """One row a pair: the columns of the junction, where it comes from, and its bucket."""
        facts = migrated.select(
            "_row",
            "_source_key",
            canonical_id(pl.col(self.spec.key), self._kind(self.crosswalk)).alias("_own"),
        )
        own_ids = own.select(pl.col("source_id").alias("_own"), pl.col("target_id").alias("_own_id"))
        pairs = members.join(facts, on="_row", maintain_order="left").join(own_ids, on="_own", maintain_order="left")
        values = {self.spec.own: "_own_id", self.spec.other: "target_id"}
        columns = [
            pl.col(values[column.name]).cast(polars_type(column.type)).alias(column.name)
            for column in self.target.columns
            if column.name in values
        ]
        first = next(iter(self.inputs.system.mappings.for_target(self.model).sources.values())).members
        assert first
        return pairs.select(
            *columns,
            pl.lit(self.source).alias("_source"),
            "_source_key",
            pl.col("_row").alias("_source_row"),
            pl.col("position").cast(pl.Int64).alias("_position"),
            pl.col("named").alias("_part"),
            pl.len().over("_row").cast(pl.Int64).alias("_total"),
        ).with_columns(bucket_of(text_digest(pl.col(first.own).cast(pl.String))).alias("_bucket"))


def resolved(context: TransformContext, crosswalk: str, ids: pl.Series) -> pl.DataFrame:
    """What ids are in a crosswalk: `source_id`, `target_id`, `is_there`, `fate`, `is_merged`, and `named`.

    A crosswalk of documents says of each its `fate` (null: it is migrated), whether it is `merged` into another one,
    whose id its `target_id` is then, and which legacy id that one has (`named`, where the crosswalk says it).
    """
    listed = context.crosswalks[crosswalk]
    known = listed.collect_schema().names()
    fate = pl.col("fate") if "fate" in known else pl.lit(None, pl.String)
    merged = pl.col("merged").fill_null(False) if "merged" in known else pl.lit(False)
    named = [pl.coalesce("named", "source_id").alias("named")] if "named" in known else []
    listed = listed.select("source_id", "target_id", fate.alias("fate"), merged.alias("is_merged"), *named)
    wanted = ids.drop_nulls().unique()
    found = listed.filter(pl.col("source_id").is_in(wanted.implode())).collect(engine="streaming")
    is_there = pl.col("target_id").is_not_null() & (pl.col("fate").is_null() | pl.col("is_merged"))
    found = found.with_columns(is_there.alias("is_there"))
    if named:
        return found
    into = found.filter("is_merged").get_column("target_id").unique()
    if into.is_empty():
        return found.with_columns(pl.col("source_id").alias("named"))
    of_itself = ~pl.col("is_merged") & pl.col("fate").is_null() & pl.col("target_id").is_in(into.implode())
    winners = listed.filter(of_itself).select("target_id", pl.col("source_id").alias("winner"))
    return (
        found.join(winners.unique("target_id").collect(engine="streaming"), on="target_id", how="left")
        .with_columns(
            pl.when("is_merged").then(pl.coalesce("winner", "source_id")).otherwise("source_id").alias("named")
        )
        .drop("winner")
    )


def _coerced(members: pl.DataFrame) -> pl.DataFrame:
    """By `_row`, a kind for each lossy change of its members, as `_coercions`; of bad ones nothing counts."""
    first = pl.int_range(pl.len()).over("_row") == 0
    changes = {
        ALONE: pl.col("alone") & first,
        NULL_MEMBER: pl.col("is_nothing"),
        FROM_TEXT: pl.col("usable") & pl.col("from_text"),
        MERGED: pl.col("usable") & pl.col("is_merged"),
        DUPLICATE: pl.col("is_again"),
    }
    kinds = [
        members.filter(changed.fill_null(False)).select("_row", pl.lit(kind).alias("kind"))
        for kind, changed in changes.items()
    ]
    return pl.concat(kinds).group_by("_row", maintain_order=True).agg(pl.col("kind").alias("_coercions"))


# --- pairs ------------------------------------------------------------------------------------------------------------


def united_pairs(columns: Sequence[str], candidates: pl.DataFrame) -> Prepared:
    """One row a pair, whoever names it; each document links to those that it names, with `total` of all parts."""
    ordered = candidates.sort("_source", "_source_row", "_position")
    rows = ordered.select(columns).unique().sort(columns)
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_row"))
    pairs = ordered.join(rows, on=list(columns), maintain_order="left")
    links = pairs.group_by("_source", "_source_key", "_bucket", maintain_order=True).agg(
        pl.col("_source_row").first(),
        pl.col("_part").alias("parts"),
        pl.col("_row").alias("rows"),
        pl.col("_total").first().alias("total"),
    )
    named = links.rename(
        {"_source": "source_table", "_source_key": "source_key", "_source_row": "source_row", "_bucket": "bucket"}
    )
    schema = pl.Schema({**LINKS_SCHEMA, "total": pl.Int64()})
    return Prepared(rows.select("_row", *columns), named.select(schema.names()).cast(schema))


HELD_ROWS = 400_000
"""Pairs and rejected documents that are held before they are spread over files."""
FILES = 256
"""Over how many they are spread; a part is one or several of them."""


class PairParts:
    """The pairs and rejected documents of a junction on their way from batches into parts; memory is bounded."""

    def __init__(self, home: Path, held: ExitStack) -> None:
        self._home, self._exit = home, held
        self._held: tuple[list[pl.DataFrame], list[pl.DataFrame]] = ([], [])
        self._rows = self._pairs = 0
        self._scratch: Path | None = None
        self._written = 0

    def add(self, candidates: pl.DataFrame, rejected: pl.DataFrame) -> None:
        self._pairs += candidates.height
        for held, frame in zip(self._held, (candidates, rejected), strict=True):
            held.append(frame)
            self._rows += frame.height
        if self._rows > HELD_ROWS:
            self._spread()

    def _spread(self) -> None:
        if self._scratch is None:
            make_state_directory(self._home)
            self._scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self._home))
            self._exit.callback(shutil.rmtree, self._scratch, ignore_errors=True)
        for kind, bucket, held in zip(("pairs", "rejected"), ("_bucket", "bucket"), self._held, strict=True):
            column = pl.col(bucket) // (BUCKETS // FILES)
            frame = pl.concat(held).with_columns(column.alias("_file"))
            for (file,), some in frame.partition_by("_file", include_key=False, as_dict=True).items():
                path = self._scratch / f"{kind}-{int(file):03d}-{self._written:06d}"
                some.write_ipc(path, compression="lz4")
            # The schema stays, so that a part without rows has it too.
            held[:] = [frame.drop("_file").clear()]
        self._written, self._rows = self._written + 1, 0

    def parts(self, batch_rows: int) -> Iterator[tuple[str, tuple[int, int], pl.DataFrame, pl.DataFrame]]:
        """Name, first and last bucket, candidates and rejected rows of each part."""
        if self._scratch is not None:
            self._spread()
        count = min(batch_count(self._pairs, batch_rows), FILES)
        for number in range(count):
            low, high = bucket_range(number, count)
            pairs = self._lying_in("pairs", "_bucket", self._held[0], (low, high))
            yield f"{number:05d}", (low, high), pairs, self._lying_in("rejected", "bucket", self._held[1], (low, high))

    def _lying_in(self, kind: str, bucket: str, held: Sequence[pl.DataFrame], buckets: tuple[int, int]) -> pl.DataFrame:
        if self._scratch is None:
            return pl.concat(held).filter(pl.col(bucket).is_between(*buckets))
        width = BUCKETS // FILES
        files = range(buckets[0] // width, buckets[1] // width + 1)
        paths = [path for file in files for path in sorted(self._scratch.glob(f"{kind}-{file:03d}-*"))]
        return pl.concat([*held, *(pl.read_ipc(path) for path in paths)])


@contextmanager
def pair_parts(models: Sequence[str], home: Path) -> Iterator[dict[str, PairParts]]:
    """By model of a junction, what is held of its pairs until all batches are there."""
    with ExitStack() as held:
        yield {model: PairParts(home, held) for model in models}
