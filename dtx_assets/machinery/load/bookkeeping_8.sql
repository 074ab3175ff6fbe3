-- What version 8 of the bookkeeping has beside `bookkeeping.sql`, which is version 7.

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

INSERT INTO migration.schema_version (version) VALUES (8);
