"""From values to the bytes of a `.t7`."""
