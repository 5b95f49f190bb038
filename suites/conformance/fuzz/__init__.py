"""The same generated requests to a server and to the simulation: their answers must be of one class."""
