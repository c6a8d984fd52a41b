"""What a text encoder reads of a class: its name in words, and prompts around it."""
