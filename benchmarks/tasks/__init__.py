"""Each file here has `work(backend, run)`: a call to time, and how many images one call deals with."""
