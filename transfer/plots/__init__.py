"""Pictures of networks, data and results."""
