"""One run: its recipe, its identity, its training."""
