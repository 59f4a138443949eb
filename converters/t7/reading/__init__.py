"""Read the bytes of a `.t7` into values."""
