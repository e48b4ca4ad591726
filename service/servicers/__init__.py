"""One class for each proto service: decode, call one operation, encode."""
