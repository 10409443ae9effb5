"""Traffic with known incidents in it, for the demo, tests and load runs."""
