"""Networks in Jittor, the readers of their weight files, and the settings that travel with weights."""
