"""Reports: one model of the ledger, told as text, JSON, CSV and HTML."""
