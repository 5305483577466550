"""Which latents, at several sites together, carry an output: a circuit, scored beside circuits drawn at random."""
