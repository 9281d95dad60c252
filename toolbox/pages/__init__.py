"""Pages that a browser opens without network or server: one file each, with all that is in it."""
