"""The system `dtx`: DTX 1.0 (PHP, MySQL, files on EFS) to DTX 2.0 (Django, PostgreSQL, files on S3)."""
