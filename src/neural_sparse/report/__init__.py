"""What is shown: tables, pictures, pages."""
