"""The Omniflo template registry."""
