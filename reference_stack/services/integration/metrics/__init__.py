"""The metrics service: questions to Prometheus."""
