"""Reports: one model of the ledger, printed as text, JSON, CSV and HTML."""
