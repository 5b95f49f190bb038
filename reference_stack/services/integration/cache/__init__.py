"""The cache service: values that may be lost, and rate limits, in a Redis-protocol server."""
