"""Tests share two cores: threads that wait for each other must not spin there."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
