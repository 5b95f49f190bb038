"""Settings of each service: strict, frozen, one module a service."""
