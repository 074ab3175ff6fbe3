SELECT
    office.legacy_office_id AS id,
    doctor.legacy_user_id AS doctor_id,
    office.name,
    office.address,
    office.metadata ->> 'apt' AS apt,
    office.city,
    office.state,
    office.zip_code AS zip,
    office.country,
    office.phone,
    office.metadata ->> 'tax_rate' AS tax_rate,
    office.is_active AS valid,
    office.metadata ->> 'sq_customer_id' AS sq_customer_id,
    (office.settings ->> 'email_notifications')::boolean AS emails
FROM offices AS office
LEFT JOIN compat.legacy_id AS entry
    ON entry.legacy_table = 'dispatch_office' AND entry.target_table = 'doctor_offices'
    AND entry.legacy_id = office.legacy_office_id
LEFT JOIN doctor_offices AS link ON link.id = entry.target_id
LEFT JOIN profiles AS doctor ON doctor.id = link.doctor_id
WHERE office.legacy_office_id IS NOT NULL
