"""Directions between two concepts, from the rows that show them: in activations and in an SAE's latents."""
