"""A system as a folder of data: its declarations are read here, and drafted by looking at both sides."""
