"""Stores of bytes by their SHA-256: the contract, and one module for each of them."""
