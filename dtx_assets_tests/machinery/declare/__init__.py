"""A system as a folder of data: reading it, and drafting it."""
