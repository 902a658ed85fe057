"""Training: recipes, losses, the Lightning module, importers of foreign checkpoints."""
