"""Operators in other toolkits. Each file imports its toolkit, and nothing else imports the file."""
