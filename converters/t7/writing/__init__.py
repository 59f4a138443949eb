"""Write values as the bytes of a `.t7`."""
