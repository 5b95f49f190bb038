"""What is put where before a service starts."""
