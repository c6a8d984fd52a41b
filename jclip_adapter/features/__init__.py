"""Features of photos and texts: encoded, stored, shared among processes, and exchanged as files."""
