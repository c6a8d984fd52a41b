"""Class names in words, and prompts."""
