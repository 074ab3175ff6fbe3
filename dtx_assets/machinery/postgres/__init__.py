"""The target database: connections, COPY both ways, DDL and what is live; the embedded server."""
