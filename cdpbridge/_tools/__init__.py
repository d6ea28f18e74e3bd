"""Programs that write parts of this package. Not shipped."""
