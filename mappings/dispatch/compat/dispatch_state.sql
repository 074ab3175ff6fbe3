SELECT
    legacy_state_id AS id,
    status_code AS status,
    is_active AS "on",
    changed_at,
    legacy_actor_id AS actor_id,
    legacy_instruction_id AS instruction_id
FROM instruction_states
WHERE legacy_state_id IS NOT NULL
