"""A user's own torch module as a policy: any class in any file, with some of its submodules as sites."""
