"""One module per command, and what they share: the data, the networks, the shots."""
