"""Documents that clients of the gateway may search, each tenant its own."""
