"""What makes the three programs one: the specification, and how they are compared with it."""
