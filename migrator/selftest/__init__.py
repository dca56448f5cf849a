"""The chaos tests that an admin can run before trusting this tool."""
