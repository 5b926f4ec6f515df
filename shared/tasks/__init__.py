"""One file per task: what `trizoo TASK` does, in a process of its own."""
