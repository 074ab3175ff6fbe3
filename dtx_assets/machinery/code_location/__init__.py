"""Everything that a code location of a system serves, put together."""
