-- A course that was merged into another is shown as that one.
SELECT
    entry.legacy_id AS id,
    order_types.name,
    order_types.description,
    order_types.base_price AS price,
    order_types.is_active AS active
FROM compat.legacy_id AS entry
JOIN order_types ON order_types.id = entry.target_id
WHERE entry.legacy_table = 'dispatch_course' AND entry.target_table = 'order_types'
