"""Networks that are a chain of layers."""
