"""What callers may do: rules and transactions, as plain functions."""
