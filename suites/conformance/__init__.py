"""What a client of vLLM's HTTP API may rely on, asked of any server."""
