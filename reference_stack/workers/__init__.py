"""A service as several processes behind one listening socket: a parent that serves nothing, and its workers."""
