"""The conformance kit: what a port to another language must reproduce, as files that need no Python to be read."""
