"""What the server and its GPU say of themselves while the load lasts."""
