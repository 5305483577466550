"""No policy at all: activations that a user already has. They come in as captures; nothing can be run."""
