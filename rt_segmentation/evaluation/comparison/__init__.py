"""An old model and a new one on the same frames: what got better, what got worse, and what is noise."""
