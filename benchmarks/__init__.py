"""What is timed and how: one file per task, each run in a process of its own with one framework."""
