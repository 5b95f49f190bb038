"""The vector database service: points and their nearest neighbours, behind Qdrant's API."""
