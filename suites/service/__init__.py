"""One service with its real backend."""
