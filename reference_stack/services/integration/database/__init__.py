"""The database service: API keys and the usage log in PostgreSQL."""
