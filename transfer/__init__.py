"""Transfer learning with converted models: data, features, heads, training, evaluation, plots."""
