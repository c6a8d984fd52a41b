"""The built-in sample: a picture-book data set and the program that pretrained its small CLIP. It is a toy."""
