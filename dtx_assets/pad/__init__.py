"""The migration of staff trading requests: one table becomes four. Its data lies in `mappings/pad`."""
