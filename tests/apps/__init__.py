"""Applications that the tests run workers of."""
