"""Features of photos and texts: encoding, store, sharding and feature files."""
