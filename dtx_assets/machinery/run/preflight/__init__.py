"""What `diagnose` looks at, a module for each kind of place."""
