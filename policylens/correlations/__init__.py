"""Which inputs an SAE's latents follow: correlations with interpretable inputs, beside a null and the raw units."""
