"""The app's migrations; Django imports them by their names."""
