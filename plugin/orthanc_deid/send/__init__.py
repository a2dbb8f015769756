"""Where outputs go: one module per kind of receiver, all behind the same small protocol."""
