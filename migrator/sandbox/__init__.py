"""Look-alikes of helpdesks to rehearse on, one folder each."""
