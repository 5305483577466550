"""What a policy does when one SAE latent is changed: exact effects on later latents, on actions and on the value."""
