-- What the load remembers, in the schema `migration` of the target database: compact tables, and the views over them
-- that people and checks read. Nothing outside this schema is created here.

CREATE SCHEMA IF NOT EXISTS migration;

CREATE TABLE migration.schema_version (
    version integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE migration.run (
    run_id text PRIMARY KEY,
    system text NOT NULL,
    mode text NOT NULL CHECK (mode IN ('rehearsal', 'cutover')),
    status text NOT NULL DEFAULT 'running',
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    cutover_at timestamptz,
    decisions jsonb NOT NULL,
    accepted jsonb NOT NULL DEFAULT '{}',
    restore_point text,
    demonstration jsonb,
    indexes_after boolean NOT NULL DEFAULT false
);
COMMENT ON COLUMN migration.run.accepted IS 'Check or question → reason, by whom and when it was accepted.';
COMMENT ON COLUMN migration.run.restore_point IS
    'Where the target database can be put back to, noted before a cutover, and where indexes are made after a load.';
COMMENT ON COLUMN migration.run.indexes_after IS
    'Whether it was asked to make indexes and foreign keys of empty tables after their first load.';
COMMENT ON COLUMN migration.run.demonstration IS
    'What a file stood for that nobody had confirmed, done or answered, and the digest of its sample; NULL is in earnest.';

CREATE TABLE migration.flow (
    id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    system text NOT NULL,
    source_table text NOT NULL,
    target_table text NOT NULL,
    model text NOT NULL DEFAULT '',
    UNIQUE (system, target_table, source_table, model)
);
COMMENT ON TABLE migration.flow IS 'From which source table to which target table rows went.';
COMMENT ON COLUMN migration.flow.model IS 'Several models may fill one table; each knows its own rows only.';

CREATE TABLE migration.load (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES migration.run,
    system text NOT NULL,
    target_table text NOT NULL,
    model text NOT NULL DEFAULT '',
    preparation text NOT NULL,
    status text NOT NULL DEFAULT 'running',
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    counts jsonb NOT NULL DEFAULT '{}',
    subset text
);
CREATE INDEX load_target ON migration.load (system, target_table, model, id);
COMMENT ON TABLE migration.load IS 'One load of one target table within a run.';
COMMENT ON COLUMN migration.load.subset IS 'Which source rows it took; NULL is all of them.';

CREATE TABLE migration.batch (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    load_id integer NOT NULL REFERENCES migration.load,
    part text NOT NULL,
    bucket_low smallint NOT NULL,
    bucket_high smallint NOT NULL,
    digest text NOT NULL,
    columns text[] NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    witness jsonb NOT NULL DEFAULT '{}',
    clean boolean NOT NULL DEFAULT false,
    inserted_ids int8multirange NOT NULL DEFAULT '{}',
    rows_inserted bigint NOT NULL DEFAULT 0,
    rows_updated bigint NOT NULL DEFAULT 0,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    undone_at timestamptz,
    filled jsonb
);
CREATE INDEX batch_load ON migration.batch (load_id);
COMMENT ON TABLE migration.batch IS 'One transaction of a load.';
COMMENT ON COLUMN migration.batch.columns IS 'The target columns it wrote, in the order in which they were hashed.';
COMMENT ON COLUMN migration.batch.witness IS
    'How many rows of the target carried which xmin after it: as long as that holds, nobody touched them.';
COMMENT ON COLUMN migration.batch.clean IS 'Nothing was in conflict, so equal input needs no second look.';
COMMENT ON COLUMN migration.batch.filled IS
    'What the database filled columns with that the batch did not write: [value], or [] where that cannot be known.';

CREATE TABLE migration.made_after (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    load_id integer NOT NULL REFERENCES migration.load,
    live_table text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('index', 'foreign key')),
    name text NOT NULL,
    definition text NOT NULL,
    valid boolean NOT NULL,
    facts jsonb NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE migration.made_after IS
    'Indexes and foreign keys that were dropped for the first load of a table, and are not made again yet.';
COMMENT ON COLUMN migration.made_after.live_table IS 'With its schema, quoted as SQL wants it.';
COMMENT ON COLUMN migration.made_after.definition IS 'The statement that makes it; names of tables have their schema.';
COMMENT ON COLUMN migration.made_after.valid IS 'Of a foreign key: whether it was checked for all rows.';
COMMENT ON COLUMN migration.made_after.facts IS 'What the catalogue said of it: it is to say the same again.';

CREATE TABLE migration.part_list (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest uuid NOT NULL UNIQUE,
    parts text[] NOT NULL
);
COMMENT ON TABLE migration.part_list IS 'The lists of parts that source rows gave, each once.';

CREATE TABLE migration.target_row (
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_table text NOT NULL,
    key text NOT NULL,
    whole_key text,
    UNIQUE (target_table, key)
);
COMMENT ON TABLE migration.target_row IS
    'The numbers by which rows are called whose keys are no whole numbers. A number stays, whatever becomes of its row.';
COMMENT ON COLUMN migration.target_row.key IS
    'As text: of several columns, a JSON array. Of one of more than 2,000 bytes, how it begins and its digest.';
COMMENT ON COLUMN migration.target_row.whole_key IS 'The key where that is not all of it.';

CREATE TABLE migration.mapping_entry (
    lowest_id bigint NOT NULL,
    highest_id bigint NOT NULL,
    batch_id integer NOT NULL,
    part_list_id integer NOT NULL,
    flow_id smallint NOT NULL,
    bucket smallint NOT NULL,
    source_key text NOT NULL,
    target_ids bigint[],
    hashes bytea,
    adopted_ids bigint[],
    shapes text[],
    portion smallint NOT NULL DEFAULT 0,
    UNIQUE (flow_id, source_key, portion)
);
CREATE INDEX mapping_entry_places ON migration.mapping_entry
    USING brin (lowest_id, highest_id, bucket) WITH (pages_per_range = 16);
CREATE INDEX mapping_entry_batch ON migration.mapping_entry USING brin (batch_id) WITH (pages_per_range = 16);
COMMENT ON TABLE migration.mapping_entry IS
    'One row a source row: which target rows it gave. Of a junction, one a source row and bucket of its pairs.';
COMMENT ON COLUMN migration.mapping_entry.source_key IS
    'Of a text of more than 2,000 bytes, how it begins and its digest; so in all that names source rows.';
COMMENT ON COLUMN migration.mapping_entry.portion IS 'Of a junction, the bucket; else 0.';
COMMENT ON COLUMN migration.mapping_entry.target_ids IS 'In the order of the parts; NULL when they ascend by one from lowest_id.';
COMMENT ON COLUMN migration.mapping_entry.hashes IS
    'Eight bytes a target row: the hash of what was written; NULL where another source table owns the rows.';
COMMENT ON COLUMN migration.mapping_entry.adopted_ids IS 'Rows that were there already, with equal values.';
COMMENT ON COLUMN migration.mapping_entry.shapes IS
    'Of rows of other areas, what each part wrote: its columns and JSON keys; empty where that was there already.';

CREATE TABLE migration.journal_entry (
    batch_id integer NOT NULL REFERENCES migration.batch,
    target_id bigint NOT NULL,
    before jsonb NOT NULL,
    former_xmin xid,
    restored_xmin xid,
    PRIMARY KEY (batch_id, target_id)
);
COMMENT ON COLUMN migration.journal_entry.former_xmin IS 'Who had written the row before.';
COMMENT ON COLUMN migration.journal_entry.restored_xmin IS
    'Who made the row again what it was, if nobody else had written it meanwhile.';

CREATE TABLE migration.former_entry (
    batch_id integer NOT NULL REFERENCES migration.batch,
    relation text NOT NULL,
    entry jsonb NOT NULL
);
CREATE INDEX former_entry_batch ON migration.former_entry (batch_id);
COMMENT ON TABLE migration.former_entry IS 'Entries of the bookkeeping that a batch replaced or deleted, as they were.';

CREATE TABLE migration.rejected_entry (
    opened_by integer NOT NULL,
    closed_by integer,
    flow_id smallint NOT NULL,
    bucket smallint NOT NULL,
    partial boolean NOT NULL,
    found_by_load boolean NOT NULL,
    occurrence integer NOT NULL,
    hash bigint NOT NULL,
    source_key text NOT NULL,
    reasons text[] NOT NULL,
    detail text NOT NULL,
    "row" jsonb NOT NULL
);
-- Of a key that is none, such as a text where an ObjectId belongs, there may be more than an index takes.
CREATE INDEX rejected_entry_current ON migration.rejected_entry (flow_id, left(source_key, 500)) WHERE closed_by IS NULL;
COMMENT ON TABLE migration.rejected_entry IS 'Rejected from the load that opened it until the one that closed it.';

CREATE TABLE migration.accounting_entry (
    run_id text NOT NULL REFERENCES migration.run,
    flow_id smallint NOT NULL REFERENCES migration.flow,
    read bigint NOT NULL,
    migrated bigint NOT NULL,
    rejected bigint NOT NULL,
    dropped jsonb NOT NULL,
    coerced jsonb NOT NULL,
    PRIMARY KEY (run_id, flow_id)
);

CREATE TABLE migration.conflict_entry (
    flow_id smallint NOT NULL,
    bucket smallint NOT NULL,
    source_key text NOT NULL,
    part text NOT NULL,
    target_id bigint,
    cause text NOT NULL,
    columns text[] NOT NULL,
    since integer NOT NULL REFERENCES migration.load
);

CREATE TABLE migration.vanished_entry (
    flow_id smallint NOT NULL,
    bucket smallint NOT NULL,
    source_key text NOT NULL,
    part text NOT NULL,
    target_id bigint NOT NULL,
    cause text NOT NULL,
    since integer NOT NULL REFERENCES migration.load
);

CREATE TABLE migration.activation (
    system text NOT NULL,
    target_table text NOT NULL,
    model text NOT NULL DEFAULT '',
    run_id text NOT NULL REFERENCES migration.run,
    activated_at timestamptz NOT NULL DEFAULT now(),
    activated_by text NOT NULL,
    PRIMARY KEY (system, target_table, model)
);
COMMENT ON TABLE migration.activation IS 'Targets whose rows were loaded inactive and are switched on since.';

CREATE TABLE migration.sent_file (
    run_id text NOT NULL REFERENCES migration.run,
    target_table text NOT NULL,
    object_key text NOT NULL,
    sha256 text NOT NULL,
    e_tag text,
    PRIMARY KEY (run_id, target_table, object_key)
);
COMMENT ON TABLE migration.sent_file IS 'The files a run was about to send: noted before, so that an undo finds them all.';
COMMENT ON COLUMN migration.sent_file.e_tag IS
    'What S3 calls the object, where that follows from its bytes. NULL: not known, it is compared by reading.';

CREATE TABLE migration.extra (
    system text NOT NULL,
    run_id text NOT NULL REFERENCES migration.run,
    source_table text NOT NULL,
    source_key text NOT NULL,
    extra jsonb NOT NULL,
    PRIMARY KEY (system, source_table, source_key)
);
COMMENT ON TABLE migration.extra IS
    'Fields that nobody declared, of documents that are migrated, in canonical Extended JSON; a NUL is written \x00.';

CREATE TABLE migration.touched_entry (
    run_id text NOT NULL REFERENCES migration.run,
    target_schema text,
    target_table text NOT NULL,
    rows bigint NOT NULL,
    locks bigint NOT NULL
);
COMMENT ON TABLE migration.touched_entry IS
    'What a transaction of a load did to a table of others that it must not touch.';
COMMENT ON COLUMN migration.touched_entry.rows IS 'Inserted, updated and deleted.';
COMMENT ON COLUMN migration.touched_entry.locks IS 'Held at its end, and taken only by a redefinition, a TRUNCATE or a LOCK.';

CREATE TABLE migration.left_entry (
    run_id text NOT NULL REFERENCES migration.run,
    target_table text NOT NULL,
    target_id bigint,
    part text NOT NULL DEFAULT '',
    cause text NOT NULL
);
COMMENT ON TABLE migration.left_entry IS 'What the undo of a run left as it is, and why.';

CREATE VIEW migration.mapping AS
SELECT flow.system, flow.source_table, entry.source_key, flow.target_table, listed.part,
    coalesce(numbered.whole_key, numbered.key, target_row.id::text) AS target_id, load.run_id,
    batch.committed_at AS migrated_at,
    coalesce(numbered.whole_key, numbered.key, target_row.id::text) AS target_key
FROM migration.mapping_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.batch ON batch.id = entry.batch_id
JOIN migration.load ON load.id = batch.load_id
JOIN migration.part_list ON part_list.id = entry.part_list_id
CROSS JOIN LATERAL unnest(part_list.parts) WITH ORDINALITY AS listed (part, position)
CROSS JOIN LATERAL (SELECT CASE WHEN entry.target_ids IS NULL THEN entry.lowest_id + (listed.position - 1)
    ELSE entry.target_ids[listed.position] END AS id) AS target_row
LEFT JOIN migration.target_row AS numbered ON numbered.no = target_row.id AND numbered.target_table = flow.target_table;
COMMENT ON VIEW migration.mapping IS
    'Where source rows went. target_id and target_key: the key of the row; of several columns, a JSON array.';

CREATE VIEW migration.migration_mapping AS
SELECT row_number() OVER (ORDER BY entry.flow_id, entry.source_key) AS id, flow.source_table,
    CASE WHEN entry.source_key ~ '^-?[0-9]{1,18}$' THEN entry.source_key::bigint END AS source_id, flow.target_table,
    CASE WHEN entry.target_ids IS NULL THEN entry.lowest_id ELSE entry.target_ids[1] END AS target_id,
    batch.committed_at AT TIME ZONE 'UTC' AS migrated_at
FROM migration.mapping_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.batch ON batch.id = entry.batch_id
WHERE entry.portion = 0 OR NOT EXISTS (
    SELECT FROM migration.mapping_entry AS other
    WHERE (other.flow_id, other.source_key) = (entry.flow_id, entry.source_key) AND other.portion < entry.portion);
COMMENT ON VIEW migration.migration_mapping IS
    'One row a source row and target table: where several rows were made of one, the first part that is there.';

CREATE VIEW migration.rejected AS
SELECT flow.system, latest.run_id, flow.source_table, entry.source_key, flow.target_table, entry.reasons, entry.partial,
    entry.detail, entry."row"
FROM migration.rejected_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
CROSS JOIN LATERAL (
    SELECT load.run_id FROM migration.load
    WHERE (load.system, load.target_table, load.model) = (flow.system, flow.target_table, flow.model)
        AND load.status <> 'rolled back'
    ORDER BY load.id DESC LIMIT 1
) AS latest
WHERE entry.closed_by IS NULL;

CREATE VIEW migration.rejected_history AS
SELECT flow.system, load.run_id, flow.source_table, entry.source_key, flow.target_table, entry.reasons, entry.partial,
    entry.detail, entry."row"
FROM migration.rejected_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.load ON (load.system, load.target_table, load.model) = (flow.system, flow.target_table, flow.model)
    AND load.id >= entry.opened_by AND (entry.closed_by IS NULL OR load.id < entry.closed_by);

CREATE VIEW migration.accounting AS
SELECT flow.system, entry.run_id, flow.source_table, flow.target_table, entry.read, entry.migrated, entry.rejected,
    entry.dropped, entry.coerced
FROM migration.accounting_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id;

CREATE VIEW migration.journal AS
SELECT load.system, load.run_id, load.target_table, entry.target_id::text AS target_id, entry.before,
    batch.committed_at AS written_at,
    coalesce(numbered.whole_key, numbered.key, entry.target_id::text) AS target_key
FROM migration.journal_entry AS entry
JOIN migration.batch ON batch.id = entry.batch_id
JOIN migration.load ON load.id = batch.load_id
LEFT JOIN migration.target_row AS numbered
    ON numbered.no = entry.target_id AND numbered.target_table = load.target_table;

CREATE VIEW migration.conflict AS
SELECT flow.system, flow.source_table, entry.source_key, flow.target_table, entry.part, entry.target_id::text AS target_id,
    entry.cause, entry.columns, load.run_id AS since,
    coalesce(numbered.whole_key, numbered.key, entry.target_id::text) AS target_key
FROM migration.conflict_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.load ON load.id = entry.since
LEFT JOIN migration.target_row AS numbered
    ON numbered.no = entry.target_id AND numbered.target_table = flow.target_table;

CREATE VIEW migration.vanished AS
SELECT flow.system, flow.source_table, entry.source_key, flow.target_table, entry.part, entry.target_id::text AS target_id,
    entry.cause, load.run_id AS since,
    coalesce(numbered.whole_key, numbered.key, entry.target_id::text) AS target_key
FROM migration.vanished_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.load ON load.id = entry.since
LEFT JOIN migration.target_row AS numbered
    ON numbered.no = entry.target_id AND numbered.target_table = flow.target_table;

CREATE FUNCTION migration.sources_of(wanted_table text, wanted_id bigint)
RETURNS TABLE (system text, source_table text, source_key text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT flow.system, flow.source_table, entry.source_key
    FROM migration.mapping_entry AS entry
    JOIN migration.flow ON flow.id = entry.flow_id
    WHERE flow.target_table = wanted_table
        AND entry.lowest_id <= wanted_id AND entry.highest_id >= wanted_id
        AND (entry.target_ids IS NULL OR wanted_id = ANY (entry.target_ids));
END;
COMMENT ON FUNCTION migration.sources_of IS 'The source rows that a target row came from.';

INSERT INTO migration.schema_version (version) VALUES (11);
