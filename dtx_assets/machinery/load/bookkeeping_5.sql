-- From version 4 to 5: what an object store calls a file that was sent, so that verifying need not read it.

ALTER TABLE migration.sent_file ADD COLUMN e_tag text;
COMMENT ON COLUMN migration.sent_file.e_tag IS
    'What S3 calls the object, where that follows from its bytes. NULL: not known, it is compared by reading.';

INSERT INTO migration.schema_version (version) VALUES (5);
