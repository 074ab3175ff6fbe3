-- How many orders are in which state.
SELECT status, count(*) FROM dispatch_instruction GROUP BY status
