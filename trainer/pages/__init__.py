"""What was measured, shown: tables for the terminal, pages for the browser."""
