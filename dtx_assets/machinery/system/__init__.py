"""What one migration is made of: tables, targets, flows, and the data they run on."""
