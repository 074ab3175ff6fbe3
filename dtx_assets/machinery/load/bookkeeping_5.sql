-- From version 4 to 5: what an object store calls a file that was sent, so that verifying need not read it.

ALTER TABLE migration.sent_file ADD COLUMN e_tag text;
COMMENT ON COLUMN migration.sent_file.e_tag IS
    'What S3 calls the object, where that follows from its bytes. NULL: not known, it is compared by reading.';

-- What an undo needs in order to know that nobody but this migration changed a row.

ALTER TABLE migration.batch ADD COLUMN filled jsonb;
COMMENT ON COLUMN migration.batch.filled IS
    'What the database filled columns with that the batch did not write: [value], or [] where that cannot be known.';

ALTER TABLE migration.journal_entry ADD COLUMN former_xmin xid;
ALTER TABLE migration.journal_entry ADD COLUMN restored_xmin xid;
COMMENT ON COLUMN migration.journal_entry.former_xmin IS 'Who had written the row before.';
COMMENT ON COLUMN migration.journal_entry.restored_xmin IS
    'Who made the row again what it was, if nobody else had written it meanwhile.';

INSERT INTO migration.schema_version (version) VALUES (5);
