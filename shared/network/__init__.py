"""Networks as data, and their weights."""
