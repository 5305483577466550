"""Concepts: what is true of the world at each row, and the rows that show it."""
