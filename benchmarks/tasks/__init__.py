"""Each file here has `work(backend, run)`: one span of work, as a `Work`, for whichever framework BACKEND is."""
