"""Helpdesks that files are pulled from: the contract, and one folder for each of them."""
