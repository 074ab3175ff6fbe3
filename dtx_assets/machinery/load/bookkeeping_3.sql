-- From version 2 to 3: which columns and JSON keys a unit of a row of others wrote; NULL stands for those it writes now.

ALTER TABLE migration.mapping_entry ADD COLUMN shapes text[];
COMMENT ON COLUMN migration.mapping_entry.shapes IS
    'Of rows of other areas, what each part wrote: its columns and JSON keys; empty where that was there already.';

INSERT INTO migration.schema_version (version) VALUES (3);
