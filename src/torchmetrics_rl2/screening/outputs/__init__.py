"""What a screen writes."""
