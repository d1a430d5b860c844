"""What the consumer counts and tells: health, measures, reports, traces."""
