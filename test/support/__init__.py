"""What tests share: data, models, bags, and nodes."""
