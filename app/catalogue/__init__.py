"""What DashScope offers, as data."""
