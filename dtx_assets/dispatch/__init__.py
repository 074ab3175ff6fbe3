"""The migration of a dental laboratory's Django database, generic foreign keys and all. Its data lies in
`mappings/dispatch`."""
