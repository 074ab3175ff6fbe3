-- Who ordered what, and when last.
SELECT u.id, c.name, count(*) AS orders, max(i.submitted_at) AS last_order
FROM dispatch_instruction AS i
JOIN dispatch_patient AS p ON p.id = i.patient_id
JOIN auth_user AS u ON u.id = p.user_id
JOIN dispatch_course AS c ON c.id = i.course_id
GROUP BY u.id, c.name
