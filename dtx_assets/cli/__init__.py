"""The command `dtx`: what people type and see in a terminal."""
