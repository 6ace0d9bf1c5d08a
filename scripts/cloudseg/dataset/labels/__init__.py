"""Labels in all the forms that they come in: a file per form, each of which reads the masks of an image by class."""
