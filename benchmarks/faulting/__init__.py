"""The parts of benchmarks/faults.py: what each does to the servers, and what it counts afterwards."""
