"""The settings of every run, and how Hydra composes them."""
