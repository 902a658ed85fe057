"""Which frames of bags are worth labelling: measured, chosen, and written as image files."""
