SELECT
    task.legacy_template_id AS id,
    task.task_name,
    task.function_type,
    template.is_predefined AS predefined,
    (task.metadata ->> 'status')::bigint AS status,
    task.action_name,
    task.text_prompt AS text_name,
    (extract(epoch FROM task.estimated_duration) / 3600)::bigint AS duration,
    (task.metadata ->> 'category_id')::bigint AS category_id,
    order_type.legacy_course_id AS course_id
FROM workflow_tasks AS task
JOIN workflow_templates AS template ON template.id = task.workflow_template_id
LEFT JOIN order_types AS order_type ON order_type.id = template.order_type_id
WHERE task.legacy_template_id IS NOT NULL
