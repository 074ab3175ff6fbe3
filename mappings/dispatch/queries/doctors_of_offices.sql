-- How many doctors work at which office.
SELECT o.id, o.name, count(d.user_id) AS doctors
FROM dispatch_office AS o
LEFT JOIN dispatch_office_doctors AS d ON d.office_id = o.id
GROUP BY o.id, o.name
