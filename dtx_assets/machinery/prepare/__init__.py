"""From legacy tables to prepared and rejected rows."""
