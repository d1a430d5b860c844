"""The pool's files while they are in use: notices replaced and missing ones."""
