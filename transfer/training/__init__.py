"""Training classifiers: one loop, exact resuming, and a folder for each run."""
