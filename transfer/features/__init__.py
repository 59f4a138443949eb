"""Features of any layer: computed (`extraction`) and stored on disk (`store`).

Nothing is imported here, so that stores can be read without torch.
"""
