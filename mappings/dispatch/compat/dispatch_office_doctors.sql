SELECT
    entry.legacy_id AS id,
    office.legacy_office_id AS office_id,
    doctor.legacy_user_id AS user_id
FROM compat.legacy_id AS entry
JOIN doctor_offices AS link ON link.id = entry.target_id
JOIN offices AS office ON office.id = link.office_id
JOIN profiles AS doctor ON doctor.id = link.doctor_id
WHERE entry.legacy_table = 'dispatch_office_doctors' AND entry.target_table = 'doctor_offices'
