-- How many files each person made, and how large they are.
SELECT creator_id, count(*) AS projects, sum(size) AS bytes
FROM dispatch_project
GROUP BY creator_id
