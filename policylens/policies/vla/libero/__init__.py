"""LIBERO in the simulator: tasks in pairs that share a scene, a scripted expert, episodes and their HDF5 files.

Nothing here needs LIBERO until a simulator starts.
"""
