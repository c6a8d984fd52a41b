"""One module per command, and their shared setup: data, networks, shots."""
