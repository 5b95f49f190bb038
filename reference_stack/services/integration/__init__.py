"""Database, vector database, cache and metrics: a Protocol each, with its real, embedded and fake forms."""
