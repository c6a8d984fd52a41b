"""Networks in Jittor, readers of weight files, and model configurations."""
