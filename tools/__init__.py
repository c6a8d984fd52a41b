"""Programs that made what the repository holds; nothing that is installed needs them."""
