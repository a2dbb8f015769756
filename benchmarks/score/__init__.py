"""A benchmark in the form of MIDI-B: synthetic studies from a seed, an answer key, and ten actions scored.

`python -m benchmarks.score` generates, de-identifies and scores; see README.md in this folder.
"""
