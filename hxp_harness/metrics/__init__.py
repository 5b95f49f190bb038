"""What is computed from traces and from a server's own counters."""
