"""Column mappings, value maps and decisions: reviewable data that is validated, executed and shown."""
