"""What people look at in a browser: the report of a run, and the local page."""
