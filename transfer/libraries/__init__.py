"""Networks of other libraries by name, and other people's weights for them."""
