"""What everything stands on: errors, settings, masking, progress, failpoints, the lake."""
