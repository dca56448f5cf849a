"""The dry run and its report."""
