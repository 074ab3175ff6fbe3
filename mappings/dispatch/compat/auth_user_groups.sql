-- Of a group only the name is known, on the profile.
SELECT
    entry.legacy_id AS id,
    profiles.legacy_user_id AS user_id
FROM compat.legacy_id AS entry
JOIN profiles ON profiles.id = entry.target_id
WHERE entry.legacy_table = 'auth_user_groups' AND entry.target_table = 'profiles'
