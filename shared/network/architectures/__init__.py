"""One file per architecture: what a network is made of, once, for all programs."""
