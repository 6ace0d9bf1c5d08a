"""Look at a folder of images and labels that nobody has described yet, and say which config fits it."""
