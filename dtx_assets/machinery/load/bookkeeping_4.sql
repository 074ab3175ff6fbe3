-- From version 3 to 4: what an undo needs, and what was accepted, activated and sent.

ALTER TABLE migration.run ADD COLUMN restore_point text;
COMMENT ON COLUMN migration.run.accepted IS 'Check or question → reason, by whom and when it was accepted.';
COMMENT ON COLUMN migration.run.restore_point IS 'Where the target database can be put back to, noted before a cutover.';

ALTER TABLE migration.load ADD COLUMN subset text;
COMMENT ON COLUMN migration.load.subset IS 'Which source rows it took; NULL is all of them.';

ALTER TABLE migration.batch ADD COLUMN undone_at timestamptz;

CREATE TABLE migration.former_entry (
    batch_id integer NOT NULL REFERENCES migration.batch,
    relation text NOT NULL,
    entry jsonb NOT NULL
);
CREATE INDEX mapping_entry_batch ON migration.mapping_entry USING brin (batch_id) WITH (pages_per_range = 16);
CREATE INDEX former_entry_batch ON migration.former_entry (batch_id);
COMMENT ON TABLE migration.former_entry IS 'Entries of the bookkeeping that a batch replaced or deleted, as they were.';

CREATE TABLE migration.activation (
    system text NOT NULL,
    target_table text NOT NULL,
    model text NOT NULL,
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
    PRIMARY KEY (run_id, target_table, object_key)
);
COMMENT ON TABLE migration.sent_file IS 'The files a run was about to send: noted before, so that an undo finds them all.';

CREATE TABLE migration.left_entry (
    run_id text NOT NULL REFERENCES migration.run,
    target_table text NOT NULL,
    target_id bigint,
    part text NOT NULL DEFAULT '',
    cause text NOT NULL
);
COMMENT ON TABLE migration.left_entry IS 'What the undo of a run left as it is, and why.';

CREATE OR REPLACE VIEW migration.rejected AS
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

INSERT INTO migration.schema_version (version) VALUES (4);
