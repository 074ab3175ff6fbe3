-- The entries that files became, of which other entries of the same arrays have no legacy id.
SELECT
    (entry ->> 'legacy_file_id')::bigint AS id,
    (entry ->> 'uid')::uuid AS uid,
    entry ->> 'name' AS name,
    (entry ->> 'size')::bigint AS size,
    'dispatch' AS app_label,
    holder.model,
    holder.object_id
FROM (
    SELECT 'record' AS model, legacy_record_id AS object_id, attachments AS entries FROM messages
    UNION ALL
    SELECT 'instruction', legacy_instruction_id, metadata -> 'files' FROM orders
    UNION ALL
    SELECT 'project', legacy_project_id, metadata -> 'files' FROM projects
) AS holder
CROSS JOIN LATERAL jsonb_path_query(holder.entries, '$[*] ? (exists (@.legacy_file_id))') AS entry
