"""Training, sampling, acquisition and what measures them, over any framework."""
