"""What the student follows, and how far it is from it."""
