"""The migration of a dental laboratory (Django): generic foreign keys become explicit. Data: `mappings/dispatch`."""
