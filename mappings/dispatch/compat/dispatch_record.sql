-- The content type by its two names, as numbers of content types are not kept.
SELECT
    message.legacy_record_id AS id,
    CASE WHEN message.profile_id IS NULL THEN 'dispatch' ELSE 'auth' END AS app_label,
    CASE
        WHEN message.order_id IS NOT NULL THEN 'instruction'
        WHEN message.project_id IS NOT NULL THEN 'project'
        WHEN message.patient_id IS NOT NULL THEN 'patient'
        ELSE 'user'
    END AS model,
    coalesce(
        o.legacy_instruction_id, project.legacy_project_id, patient.legacy_patient_id, person.legacy_user_id
    ) AS object_id,
    sender.legacy_user_id AS author_id,
    (message.metadata ->> 'group_id')::bigint AS group_id,
    (message.metadata ->> 'type')::bigint AS type,
    message.body AS text,
    (message.metadata ->> 'public')::boolean AS public,
    message.created_at
FROM messages AS message
LEFT JOIN orders AS o ON o.id = message.order_id
LEFT JOIN projects AS project ON project.id = message.project_id
LEFT JOIN profiles AS patient ON patient.id = message.patient_id
LEFT JOIN profiles AS person ON person.id = message.profile_id
LEFT JOIN profiles AS sender ON sender.id = message.sender_id
WHERE message.legacy_record_id IS NOT NULL
