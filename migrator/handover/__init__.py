"""The pack of files that lives on without this tool."""
