"""The migration of NextCRM's documents (MongoDB) to its tables (PostgreSQL). Its data lies in `mappings/crm`."""
