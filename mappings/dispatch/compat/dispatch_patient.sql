-- Of several patient rows of one user only one fills the profile: the others have their ids, and no more.
SELECT
    entry.legacy_id AS id,
    coalesce(person.legacy_user_id, (person.metadata ->> 'legacy_user_id')::bigint) AS user_id,
    filled.date_of_birth AS birthdate,
    filled.gender,
    (filled.metadata ->> 'status')::bigint AS status,
    (filled.metadata ->> 'archived')::boolean AS archived,
    (filled.metadata ->> 'suspended')::boolean AS suspended,
    filled.metadata ->> 'schemes' AS schemes,
    filled.metadata ->> 'suffix' AS suffix,
    filled.updated_at
FROM compat.legacy_id AS entry
JOIN profiles AS person ON person.id = entry.target_id
LEFT JOIN profiles AS filled ON filled.id = person.id AND filled.legacy_patient_id = entry.legacy_id
WHERE entry.legacy_table = 'dispatch_patient' AND entry.target_table = 'profiles'
