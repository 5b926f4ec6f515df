"""What a run is and how it is kept: its specification, keys, records, locks and progress."""
