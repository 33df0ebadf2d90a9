"""Readers of guest files: bytes or text in, frozen records out. They touch neither disk nor guest."""
