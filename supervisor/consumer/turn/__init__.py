"""What one turn decided, on its way to the disk and out."""
