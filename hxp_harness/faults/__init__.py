"""Ways to break what surrounds a service, and to see what it lost."""
