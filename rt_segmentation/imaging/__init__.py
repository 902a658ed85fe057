"""Camera images in, label images out: message bytes to frames, frames to RGB, labels to pictures."""
