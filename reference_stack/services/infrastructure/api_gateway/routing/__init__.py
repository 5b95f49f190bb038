"""Which server of a model gets a request: pure state machines that take the time as an argument, and one thin edge."""
