"""Data sets and image sources."""
