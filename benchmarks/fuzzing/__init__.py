"""The parts of benchmarks/fuzz.py: what is mutated, how, and what an answer of the engine must be."""
