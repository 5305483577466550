"""A project: its config.yaml, the paths it can build, and what building them takes. No heavy imports."""
