"""From the bytes of a `.t7` to its values."""
