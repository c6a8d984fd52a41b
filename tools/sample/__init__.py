"""How the built-in sample was made: the painter of its photos, and the pretraining of its small CLIP."""
