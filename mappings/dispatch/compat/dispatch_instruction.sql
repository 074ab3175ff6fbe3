-- The patient is the row that fills the profile. Doctor and office are those of the order: the legacy row names them
-- through its patient only.
SELECT
    o.legacy_instruction_id AS id,
    patient.legacy_patient_id AS patient_id,
    order_type.legacy_course_id AS course_id,
    doctor.legacy_user_id AS doctor_id,
    office.legacy_office_id AS office_id,
    (o.data ->> 'order')::bigint AS "order",
    (o.data ->> 'model')::bigint AS model,
    (o.data ->> 'scanner')::bigint AS scanner,
    (o.data ->> 'upper_jaw_id')::bigint AS upper_jaw_id,
    (o.data ->> 'lower_jaw_id')::bigint AS lower_jaw_id,
    o.notes,
    o.data ->> 'scanner_notes' AS scanner_notes,
    o.data ->> 'exports' AS exports,
    o.data ->> 'conditions' AS conditions,
    o.data ->> 'complaint' AS complaint,
    o.data ->> 'objective' AS objective,
    o.subtotal AS price,
    state.legacy_state_id AS status,
    (o.data ->> 'cbct')::boolean AS cbct,
    (o.data ->> 'accept_extraction')::boolean AS accept_extraction,
    (o.data ->> 'comprehensive')::boolean AS comprehensive,
    coalesce((o.metadata ->> 'deleted')::boolean, false) AS deleted,
    o.data ->> 'suffix' AS suffix,
    o.created_at AS submitted_at,
    o.updated_at
FROM orders AS o
JOIN profiles AS patient ON patient.id = o.patient_id
JOIN profiles AS doctor ON doctor.id = o.doctor_id
JOIN offices AS office ON office.id = o.office_id
JOIN order_types AS order_type ON order_type.id = o.order_type_id
JOIN order_states AS state ON state.id = o.current_state_id
WHERE o.legacy_instruction_id IS NOT NULL
