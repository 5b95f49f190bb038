"""The gateway's own place in uvicorn's HTTP protocol: deadlines for all requests, and a short way for completions."""
