"""Changing what a policy does by changing its activations while it acts, and measuring what comes of it."""
