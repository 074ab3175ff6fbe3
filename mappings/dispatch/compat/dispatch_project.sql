SELECT
    project.legacy_project_id AS id,
    project.legacy_uid AS uid,
    creator.legacy_user_id AS creator_id,
    project.name,
    project.file_size AS size,
    project.is_public AS public,
    project.project_type,
    project.status AS project_status,
    project.created_at
FROM projects AS project
JOIN profiles AS creator ON creator.id = project.creator_id
WHERE project.legacy_project_id IS NOT NULL
