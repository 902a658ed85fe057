"""Models measured on recorded bags: accuracy, speed, and what a robot would have seen."""
