"""Speed: engines beside plain PyTorch, and the whole node over DDS."""
