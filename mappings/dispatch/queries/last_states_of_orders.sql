-- When an order changed its state last.
SELECT instruction_id, count(*) AS changes, max(changed_at) AS last_change
FROM dispatch_state
WHERE "on"
GROUP BY instruction_id
