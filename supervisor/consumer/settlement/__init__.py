"""What every delivery, outcome, confirm and death means for a message. Pure."""
