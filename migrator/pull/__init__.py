"""The pipeline: enumerate, fetch, verify, reconcile; no HTTP and no SQL of its own."""
