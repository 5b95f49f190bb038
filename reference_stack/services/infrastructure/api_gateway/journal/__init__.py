"""The usage journal: what was accepted and what became of it, on local disk before and after, then in the database."""
