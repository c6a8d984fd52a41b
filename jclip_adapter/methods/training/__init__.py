"""Modules that several methods share: base classes, the training loop, optimizers, layers, clustering."""
