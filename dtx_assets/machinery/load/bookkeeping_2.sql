-- From version 1 to 2: several models may fill one table. What was written before belongs to the model that
-- has its columns, which takes it over at its next load.

ALTER TABLE migration.flow ADD COLUMN model text NOT NULL DEFAULT '';
ALTER TABLE migration.flow DROP CONSTRAINT flow_system_target_table_source_table_key;
ALTER TABLE migration.flow ADD UNIQUE (system, target_table, source_table, model);
ALTER TABLE migration.load ADD COLUMN model text NOT NULL DEFAULT '';
DROP INDEX migration.load_target;
CREATE INDEX load_target ON migration.load (system, target_table, model, id);

CREATE OR REPLACE VIEW migration.rejected AS
SELECT flow.system, latest.run_id, flow.source_table, entry.source_key, flow.target_table, entry.reasons, entry.partial,
    entry.detail, entry."row"
FROM migration.rejected_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
CROSS JOIN LATERAL (
    SELECT load.run_id FROM migration.load
    WHERE (load.system, load.target_table, load.model) = (flow.system, flow.target_table, flow.model)
    ORDER BY load.id DESC LIMIT 1
) AS latest
WHERE entry.closed_by IS NULL;

CREATE OR REPLACE VIEW migration.rejected_history AS
SELECT flow.system, load.run_id, flow.source_table, entry.source_key, flow.target_table, entry.reasons, entry.partial,
    entry.detail, entry."row"
FROM migration.rejected_entry AS entry
JOIN migration.flow ON flow.id = entry.flow_id
JOIN migration.load ON (load.system, load.target_table, load.model) = (flow.system, flow.target_table, flow.model)
    AND load.id >= entry.opened_by AND (entry.closed_by IS NULL OR load.id < entry.closed_by);

INSERT INTO migration.schema_version (version) VALUES (2);
