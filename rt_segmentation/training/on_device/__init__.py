"""Training frames that lie in the device's memory and are augmented there, a whole batch at a time."""
