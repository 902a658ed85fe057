"""Accuracy: metrics, data-set evaluation."""
