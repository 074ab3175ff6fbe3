"""What is derived from target tables after their load: texts, their embeddings, the search in them, knowledge bases."""
