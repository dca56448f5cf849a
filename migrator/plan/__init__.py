"""The dry run and its report. Nothing else needs this room."""
