"""Arithmetic that several methods share: optimisers, training loops, heads, clustering. It knows tasks, no methods."""
