"""What one run is told and opens, and what is done beside the graph: diagnose, explain, operations."""
