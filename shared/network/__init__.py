"""Networks as data, and the weights that belong to them."""
