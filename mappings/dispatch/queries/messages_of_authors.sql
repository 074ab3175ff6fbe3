-- How much each person wrote.
SELECT u.id, count(*) AS messages, max(r.created_at) AS last_message
FROM dispatch_record AS r
JOIN auth_user AS u ON u.id = r.author_id
GROUP BY u.id
