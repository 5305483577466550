"""Slices: which rows of a capture show which concept, as row numbers and not as copies."""
