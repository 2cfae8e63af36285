"""The embedded PostgreSQL, the database of a gateway without DATABASE_URL."""
