"""The OpenAPI document: what FastAPI generates, completed for generated clients."""
