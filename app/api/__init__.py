"""What all routes share; nothing of what they serve."""
