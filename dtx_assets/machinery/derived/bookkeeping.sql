-- What the derived layer remembers beside the queue, in the schema `migration` that the load makes. Nothing is made
-- that is there already.

CREATE TABLE IF NOT EXISTS migration.derived_journal (
    run_id text NOT NULL REFERENCES migration.run,
    queue_id uuid NOT NULL,
    source_table text NOT NULL,
    source_id uuid NOT NULL,
    content_type text NOT NULL,
    before jsonb,
    embeddings jsonb,
    written_by xid8,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, queue_id)
);
COMMENT ON TABLE migration.derived_journal IS 'What a run did to rows of the queue and their embeddings.';
COMMENT ON COLUMN migration.derived_journal.before IS 'The row of the queue as it was; NULL where there was none.';
COMMENT ON COLUMN migration.derived_journal.embeddings IS
    'The embeddings that the run replaced or removed; NULL where it touched none.';
COMMENT ON COLUMN migration.derived_journal.written_by IS
    'The transaction that wrote its embeddings last for this run.';

CREATE TABLE IF NOT EXISTS migration.derived_index (
    table_name text NOT NULL,
    index_name text NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (table_name, index_name)
);
COMMENT ON TABLE migration.derived_index IS 'Indexes that were dropped for a bulk and are not made again yet.';

CREATE TABLE IF NOT EXISTS migration.derived_document (
    run_id text NOT NULL REFERENCES migration.run,
    document_id uuid NOT NULL,
    source_table text NOT NULL,
    before jsonb,
    PRIMARY KEY (run_id, document_id)
);
COMMENT ON TABLE migration.derived_document IS 'What a run did to documents of knowledge bases.';
COMMENT ON COLUMN migration.derived_document.before IS 'The document as it was; NULL where there was none.';
