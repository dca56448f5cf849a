"""Reports: one model of the ledger, told as text, JSON and CSV."""
