"""Legacy tables kept as they were extracted, and SQL over them."""
