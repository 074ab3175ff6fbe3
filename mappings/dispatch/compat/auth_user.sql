-- The e-mail address as it was, also where it is not valid.
SELECT
    legacy_user_id AS id,
    metadata ->> 'username' AS username,
    first_name,
    last_name,
    coalesce(email, metadata ->> 'email') AS email,
    (metadata ->> 'is_superuser')::boolean AS is_superuser,
    (metadata ->> 'is_staff')::boolean AS is_staff,
    is_active,
    created_at AS date_joined,
    (metadata ->> 'last_login')::timestamptz AS last_login
FROM profiles
WHERE legacy_user_id IS NOT NULL
