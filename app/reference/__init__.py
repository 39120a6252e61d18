"""The pages of docs/ that are written by a program: the OpenAPI document, the API reference and the catalogue of errors."""
