"""The flows of DTX: what the rows of its legacy tables become, as pure functions over the frames of one batch."""
